// What machine this is: GPU, driver, CUDA, and what was built. The library is asked in a process of its own.
import { cpus, totalmem } from 'node:os';
import type { CublasFeatures, CudaFeatures } from '../../../lib';
import { describeEnd, runChild } from './child';
import type { Context, Result } from './step';

const fields = ['name', 'driver_version', 'memory.total', 'clocks.max.sm', 'power.limit', 'mig.mode.current'] as const;

async function nvidiaSmi(milliseconds: number): Promise<Record<string, string>[] | string> {
  try {
    const args = [`--query-gpu=${fields.join()}`, '--format=csv,noheader'];
    const ended = await runChild('nvidia-smi', args, { milliseconds });
    if (ended.status !== 0) return describeEnd(ended);
    return ended.stdout
      .trim()
      .split('\n')
      .map((line) => Object.fromEntries(line.split(', ').map((value, i) => [fields[i], value])));
  } catch (error) {
    return (error as Error).message;
  }
}

/** What flowmap sees of CUDA, in a process that may crash. */
export async function cudaSeen(
  emulated: boolean,
  milliseconds: number,
): Promise<CudaFeatures & { cublas: CublasFeatures }> {
  const program =
    "const { cublasFeatures, cudaFeatures } = require('./lib');" +
    'console.log(JSON.stringify({ ...cudaFeatures(), cublas: cublasFeatures() }))';
  const ended = await runChild(process.execPath, ['-r', './scripts/typescript.cjs', '-e', program], {
    milliseconds,
    env: { FLOWMAP_CUDA: emulated ? 'emulated' : undefined },
  });
  if (ended.status !== 0) throw new Error(`flowmap could not be loaded: ${describeEnd(ended)}`);
  return JSON.parse(ended.stdout) as CudaFeatures & { cublas: CublasFeatures };
}

export async function machine({ emulated, left }: Context): Promise<Result> {
  const cuda = await cudaSeen(emulated, left());
  const smi = emulated ? [] : await nvidiaSmi(left());
  const cpu = `${cpus().length} × ${cpus()[0]?.model.trim()}`;
  const device = cuda.devices[0];
  const gib = (bytes: number) => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
  const first = typeof smi === 'string' ? undefined : smi[0];
  const summary = [
    device
      ? `${device.name}, capability ${device.capability}, ${gib(device.memoryBytes)}`
      : `no device: ${cuda.reason ?? 'none was seen'}`,
    `driver ${first?.driver_version ?? 'unknown'} serves CUDA ${cuda.driver ?? '?'}; CUDA ${cuda.toolkit ?? '?'} in the library`,
    `cuBLAS ${cuda.cublas.found ? `${cuda.cublas.version} (${cuda.cublas.library})` : cuda.cublas.reason}`,
    `kernels for ${cuda.targets.join(', ') || 'nothing'}`,
    `${cpu}, ${gib(totalmem())}, Node ${process.version}`,
  ];
  if (typeof smi === 'string') summary.push(`nvidia-smi: ${smi}`);
  return {
    outcome: device ? 'passed' : 'failed',
    summary,
    details: { cuda, nvidiaSmi: smi, cpu, memoryBytes: totalmem(), node: process.version },
  };
}
