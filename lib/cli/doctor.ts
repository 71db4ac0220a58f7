// `flowmap doctor`: what flowmap finds on this machine, and why what is missing is missing.
import { arch, cpus, platform, totalmem } from 'node:os';
import { tensor } from '../create';
import { type CublasFeatures, type CudaFeatures, cublasFeatures, cudaFeatures, features } from '../device';
import { FlowmapError } from '../errors';
import { memory } from '../memory';
import { packageVersion } from '../packageRoot';
import type { Command } from './options';

interface Device {
  name: string;
  available: boolean;
  /** Why it is not available. */
  reason?: string;
}

interface Report {
  flowmap: string;
  node: string;
  platform: string;
  processor: string;
  oneDnn: string;
  highway: string;
  simd: string;
  bfloat16: boolean;
  threads: number;
  memory: { totalBytes: number; limitBytes: number };
  cuda: CudaFeatures;
  cublas: CublasFeatures;
  devices: Device[];
}

/** Finds out by using it, up to a value that comes back. */
function probe(name: string): Device {
  try {
    const x = tensor(1, { device: name });
    x.itemSync();
    x.dispose();
    return { name, available: true };
  } catch (error) {
    if (!(error instanceof FlowmapError)) throw error;
    return { name, available: false, reason: error.message.slice(`${error.op}: `.length) };
  }
}

function examine(): Report {
  const cuda = cudaFeatures();
  return {
    flowmap: packageVersion(),
    node: process.version,
    platform: `${platform()}-${arch()}`,
    processor: cpus()[0]?.model.trim() || 'unknown',
    ...features(),
    memory: { totalBytes: totalmem(), limitBytes: memory().limitBytes },
    cuda,
    cublas: cublasFeatures(),
    devices: ['cpu', ...(cuda.devices.length > 0 ? cuda.devices.map(({ device }) => device) : ['cuda'])].map(probe),
  };
}

function cudaText({ found, library, reason, emulated, targets, toolkit, driver }: CudaFeatures): [string, string][] {
  if (!found) return [['CUDA library', library ? `${library}: ${reason}` : reason!]];
  return [
    ['CUDA library', `${library}, CUDA ${toolkit}, for ${targets.join(', ')}${emulated ? ', emulated' : ''}`],
    ['CUDA driver', driver ? `serves CUDA ${driver}` : reason!],
  ];
}

function cublasText({ library, version, reason }: CublasFeatures): string {
  return library ? `${library}, ${version}` : reason!;
}

function deviceText({ name, available, reason }: Device, { devices }: CudaFeatures): string {
  if (!available) return reason!;
  const facts = devices.find(({ device }) => device === name);
  return facts ? `${facts.name}, ${gigabytes(facts.memoryBytes)}, capability ${facts.capability}` : 'available';
}

// Highway names the instruction sets as it counts them, not as people do.
const spoken: Record<string, string> = { AVX3: 'AVX-512', AVX3_DL: 'AVX-512', AVX3_ZEN4: 'AVX-512', SSE2: 'SSE2 only' };

function gigabytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function lines(report: Report): string[] {
  const { simd } = report;
  const rows: [string, string][] = [
    ['flowmap', report.flowmap],
    ['Node', `${report.node} on ${report.platform}`],
    ['processor', report.processor],
    ['oneDNN', report.oneDnn],
    ['Highway', report.highway],
    ['SIMD level', spoken[simd] ? `${spoken[simd]} (Highway's ${simd})` : simd],
    ['bfloat16', report.bfloat16 ? 'matrix products by instructions of its own' : 'matrix products through float32'],
    ['threads', String(report.threads)],
    ['memory', `${gigabytes(report.memory.totalBytes)}; tensors may use ${limitText(report.memory)}`],
    ...cudaText(report.cuda),
    ...(report.cuda.found ? [['cuBLAS', cublasText(report.cublas)] as [string, string]] : []),
    ...report.devices.map((device): [string, string] => [`device ${device.name}`, deviceText(device, report.cuda)]),
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, text]) => `${label.padEnd(width)}  ${text}`);
}

function limitText({ totalBytes, limitBytes }: Report['memory']): string {
  return limitBytes >= totalBytes ? 'all of it' : `${gigabytes(limitBytes)} of it`;
}

export const doctor: Command = {
  options: { json: { type: 'boolean', help: 'as one JSON object' } },
  async run(values) {
    const report = examine();
    console.log(values.flag('json') ? JSON.stringify(report, null, 2) : lines(report).join('\n'));
    return 0;
  },
};
