// What benchmarks/gpu.ts finds out, as JSON and as a table: times beside the floor that a group's bytes set at the rate of
// CUDA's own copy.
import type { Row } from '../support/measure';
import type { Provenance } from '../support/provenance';
import type { Scaling } from '../support/runFile';
import { alignColumns, formatBytes, formatTime } from '../support/table';

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
  /** See peakMemory in support/measure. */
  peakBytes?: number;
  /** What JavaScript needed to queue one run. */
  launchSeconds?: number;
  /** How many inputs the runs took in turn. */
  inputs?: number;
  scaling?: Scaling;
  /** A peer's: the row it does the work of, how many times as long it took, and how far off its results are. */
  peerOf?: string;
  timesFlowmap?: number;
  difference?: number;
}

export interface Ceiling {
  bytes: number;
  copySeconds: number;
  /** Between two events with nothing between them: what every time has of it. */
  eventSeconds: number;
  l2Bytes: number;
  /** Written before each run. */
  writtenBytes: number;
}

/** By what the times were taken, for readers. */
export const timingOf = ({ l2Bytes, writtenBytes }: Ceiling): string =>
  `events around each run, ${formatBytes(writtenBytes)} written before it (L2 cache: ${formatBytes(l2Bytes)})`;

export interface GpuFigures extends Partial<Provenance> {
  emulated: boolean;
  device: string;
  /** A line for each checkout of Triton kernels that was asked for. */
  peers?: string[];
  timing?: string;
  /** CUDA's own copy (read and write), on the same clock. */
  ceiling?: Ceiling;
  /** The rate of a product of 8192³, where all groups are of one dtype. */
  product?: { dtype: string; flops: number };
  results: GpuFigure[];
  /** Groups and subjects that this machine cannot run, and why. */
  skipped: { group: string; name?: string; reason: string }[];
  failed: { group: string; name?: string; error: string }[];
}

export function figureOf(family: string, row: Row, copyRate: number): GpuFigure {
  const { group, name, median, p10, p90, bytes, flops, peakBytes, launchSeconds, inputs, scaling } = row;
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
    ...(peakBytes === undefined ? {} : { peakBytes }),
    ...(launchSeconds === undefined ? {} : { launchSeconds }),
    ...(inputs === undefined ? {} : { inputs }),
    ...(scaling === undefined ? {} : { scaling }),
  };
}

export function printFigures(title: string, figures: readonly GpuFigure[]): void {
  const cells = figures.map(
    ({ name, seconds, floorSeconds, shareOfCopy, gbytes, tflops, peakBytes, launchSeconds }) => {
      const { median, p10, p90 } = seconds!;
      const rates = [];
      if (floorSeconds !== undefined) {
        rates.push(`floor ${formatTime(floorSeconds)}`, `${gbytes!.toFixed(0)} GB/s`);
        rates.push(`${(100 * shareOfCopy!).toFixed(0)} % of copy`);
      }
      if (tflops !== undefined) rates.push(`${tflops.toFixed(1)} TFLOP/s`);
      if (launchSeconds !== undefined) rates.push(`launch ${formatTime(launchSeconds)}`);
      if (peakBytes !== undefined) rates.push(`peak ${formatBytes(peakBytes)}`);
      return [name, formatTime(median), `${formatTime(p10)} – ${formatTime(p90)}`, rates.join(', ')];
    },
  );
  console.log(`\n${title}`);
  for (const line of alignColumns(cells, [1])) console.log(`  ${line}`);
}
