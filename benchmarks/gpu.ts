// `node -r ./scripts/typescript.cjs benchmarks/gpu.ts [--json out.json]`: the CUDA kernels beside CUDA's own copy, larger than the
// caches, and tiny, where launching is all. On the emulator everything runs once at toy sizes and no figure is given.
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { cudaFeatures, type DType, dispose, synchronizeSync } from '../lib';
import { parseLines, program } from '../test/cuda/support/programs';
import { gpuSubjects } from './support/gpuSubjects';
import { measure } from './support/measure';
import { printTable } from './support/report';

export interface GpuFigure {
  group: string;
  name: string;
  /** Absent on the emulator, as all figures are. */
  seconds?: { median: number; p10: number; p90: number };
  gbytes?: number;
  /** Of the rate of CUDA's copy within the device, same run. */
  shareOfCopy?: number;
}

export interface Ceiling {
  bytes: number;
  copySeconds: number;
  launchSeconds: number;
  l2Bytes: number;
}

export interface GpuFigures {
  emulated: boolean;
  device: string;
  /** CUDA's own copy (read and write) and its launch of an empty kernel. */
  ceiling?: Ceiling;
  results: GpuFigure[];
}

const dtypes: readonly DType[] = ['float32', 'bfloat16'];

function ceilingOf(emulated: boolean): Ceiling {
  const { path, env } = program('deviceCopy', emulated ? 'emulated' : 'gpu');
  const args = emulated ? ['4096', '2', '2'] : [String(2 ** 28), '50', '5000'];
  return parseLines<Ceiling>(execFileSync(path, args, { encoding: 'utf8', env: { ...process.env, ...env } }))[0]!;
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { json: { type: 'string' } } });
  const { emulated, devices, reason } = cudaFeatures();
  if (!devices[0]) throw new Error(`benchmarks/gpu needs a CUDA device: ${reason}`);
  const ceiling = ceilingOf(emulated);
  const copyRate = (2 * ceiling.bytes) / ceiling.copySeconds;
  const figures: GpuFigures = { emulated, device: devices[0].name, ...(emulated ? {} : { ceiling }), results: [] };
  if (!emulated) {
    const [rate, launch] = [(copyRate / 1e9).toFixed(0), (ceiling.launchSeconds * 1e6).toFixed(2)];
    console.log(
      `copy within the device: ${rate} GB/s, L2 ${(ceiling.l2Bytes / 2 ** 20).toFixed(0)} MiB; an empty launch: ${launch} µs`,
    );
  }
  // 64 Mi elements: 256 or 128 MiB each, beyond every second-level cache.
  const sizes = emulated
    ? [[8, 32]]
    : [
        [16384, 4096],
        [4, 64],
      ];
  for (const [rows, width] of sizes as [number, number][]) {
    for (const dtype of dtypes) {
      const group = `[${rows}, ${width}] ${dtype}`;
      const { subjects, inputs } = gpuSubjects({ device: 'cuda', dtype, rows, width });
      if (emulated) {
        for (const { run } of subjects) dispose(run!());
        synchronizeSync('cuda');
        figures.results.push(...subjects.map(({ name }) => ({ group, name })));
      } else {
        // Tiny tensors live in the cache: their bytes say nothing.
        const large = rows * width > 2 ** 20;
        const measured = await measure(
          subjects.map((subject) => (large ? subject : { ...subject, bytes: undefined })),
          { device: 'cuda' },
        );
        printTable(group, measured, { bytes: copyRate });
        for (const { name, median, p10, p90, bytes } of measured) {
          const rate =
            bytes === undefined ? {} : { gbytes: bytes / median / 1e9, shareOfCopy: bytes / median / copyRate };
          figures.results.push({ group, name, seconds: { median, p10, p90 }, ...rate });
        }
      }
      dispose(inputs);
    }
  }
  if (emulated) console.log(`emulated: ${figures.results.length} subjects ran at toy sizes; no figures`);
  if (values.json) writeFileSync(values.json, `${JSON.stringify(figures, null, 2)}\n`);
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
