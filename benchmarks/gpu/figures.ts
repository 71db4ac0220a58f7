// What benchmarks/gpu.ts finds out, as JSON and as a table: times beside the floor that a group's bytes set at the rate of
// CUDA's own copy.
import type { Row } from '../support/measure';
import type { Provenance } from '../support/provenance';
import type { Scaling } from '../support/runFile';
import { formatTime } from '../support/table';

export interface GpuFigure {
  family: string;
  group: string;
  name: string;
  /** Absent on the emulator, as all figures are. */
  seconds?: { median: number; p10: number; p90: number };
  gbytes?: number;
  /** Bytes that must move, at the rate of CUDA's copy within the device, same run. */
  floorSeconds?: number;
  /** Of that rate. */
  shareOfCopy?: number;
  tflops?: number;
  scaling?: Scaling;
  /** A peer's: the row it does the work of, how many times as long it took, and how far off its results are. */
  peerOf?: string;
  timesFlowmap?: number;
  difference?: number;
}

export interface Ceiling {
  bytes: number;
  copySeconds: number;
  launchSeconds: number;
  l2Bytes: number;
}

export interface GpuFigures extends Partial<Provenance> {
  emulated: boolean;
  device: string;
  /** A line for each checkout of Triton kernels that was asked for. */
  peers?: string[];
  /** CUDA's own copy (read and write) and its launch of an empty kernel. */
  ceiling?: Ceiling;
  /** The rate of a product of 8192³, where all groups are of one dtype. */
  product?: { dtype: string; flops: number };
  results: GpuFigure[];
  /** Groups and subjects that this machine cannot run, and why. */
  skipped: { group: string; name?: string; reason: string }[];
  failed: { group: string; name?: string; error: string }[];
}

export function figureOf(family: string, row: Row, copyRate: number): GpuFigure {
  const { group, name, median, p10, p90, bytes, flops, scaling } = row;
  return {
    family,
    group: group!,
    name,
    seconds: { median, p10, p90 },
    ...(bytes === undefined
      ? {}
      : {
          gbytes: bytes / median / 1e9,
          floorSeconds: bytes / copyRate,
          shareOfCopy: bytes / copyRate / median,
        }),
    ...(flops === undefined ? {} : { tflops: flops / median / 1e12 }),
    ...(scaling === undefined ? {} : { scaling }),
  };
}

export function printFigures(title: string, figures: readonly GpuFigure[]): void {
  const cells = figures.map(({ name, seconds, floorSeconds, shareOfCopy, gbytes, tflops }) => {
    const { median, p10, p90 } = seconds!;
    const rates = [];
    if (floorSeconds !== undefined) {
      rates.push(`floor ${formatTime(floorSeconds)}`, `${gbytes!.toFixed(0)} GB/s`);
      rates.push(`${(100 * shareOfCopy!).toFixed(0)} % of copy`);
    }
    if (tflops !== undefined) rates.push(`${tflops.toFixed(1)} TFLOP/s`);
    return [name, formatTime(median), `${formatTime(p10)} – ${formatTime(p90)}`, rates.join(', ')];
  });
  const widths = [0, 1, 2].map((i) => Math.max(...cells.map((cell) => cell[i]!.length)));
  console.log(`\n${title}`);
  for (const [name, median, range, rates] of cells) {
    const columns = [name!.padEnd(widths[0]!), median!.padStart(widths[1]!), range!.padEnd(widths[2]!), rates];
    console.log(`  ${columns.join('  ').trimEnd()}`);
  }
}
