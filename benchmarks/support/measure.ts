// Times work on the device's stream by the host's clock. What is compared runs alternately, so that both meet the same
// machine; the median of the rounds counts. CUDA devices are timed on their own clock: gpu/events.ts.
import { setTimeout } from 'node:timers/promises';
import { memory, resetPeakMemory, synchronizeSync, tidy } from '../../lib';
import type { Scaling } from './runFile';

export interface Subject {
  name: string;
  /** One run of flowmap's, queued on the device's stream. */
  run?: () => unknown;
  /** In place of `run`, for a peer: performs so many runs and gives the seconds of one. */
  time?: (repeats: number) => Promise<number>;
  /** Floating-point operations of one run, by the convention the benchmark states. */
  flops?: number;
  /** Bytes one run must move at least: every input read once, every output written once. */
  bytes?: number;
  /** Training steps of one run. */
  steps?: number;
  /** A peer's: the subject of the same group it does the same work as. */
  peerOf?: string;
  /** A peer's: relative L2 distance of its results from flowmap's. */
  difference?: number;
  /** Relative L2 distance of its results from the same in float64; asked once, before the clock runs. */
  error?: () => number;
}

export interface Ceilings {
  /** Floating-point rate, per second. */
  flops?: number;
  /** Bandwidth, bytes per second. */
  bytes?: number;
}

export interface Row extends Subject {
  /** Title of the group it was measured in. */
  group?: string;
  scaling?: Scaling;
  /** What `error` said. */
  float64Error?: number;
  /** See {@link peakMemory}; a peer's is not known. */
  peakBytes?: number;
  /** Seconds that JavaScript needed to queue one run; absent where that was not told apart. */
  launchSeconds?: number;
  /** What the machine did at best in the same rounds, medians as well. */
  ceilings?: Ceilings;
  /** How many inputs of the same kind the runs took in turn; absent where it was one. */
  inputs?: number;
  /** Seconds of one run. */
  median: number;
  p10: number;
  p90: number;
}

export interface MeasureOptions {
  /** Rounds of A B A B … Default 9. */
  rounds?: number;
  /** Least seconds one timing lasts; short work is repeated to fill it. Default 0.02. */
  atLeast?: number;
  /** The device that `run` queues on. Default 'cpu'. */
  device?: string;
}

// Idle threads of another library go on spinning for a while, on the cores the next subject needs.
const restMilliseconds = 100;

async function time(subject: Subject, repeats: number, device: string): Promise<number> {
  return subject.time ? subject.time(repeats) : secondsOfRuns(subject.run!, repeats, device);
}

/** Seconds of one of so many runs, from the first one's queueing to the last one's end. */
export function secondsOfRuns(run: () => unknown, repeats: number, device: string): number {
  synchronizeSync(device);
  const start = process.hrtime.bigint();
  for (let i = 0; i < repeats; i++) {
    tidy(() => {
      run();
    });
  }
  synchronizeSync(device);
  return Number(process.hrtime.bigint() - start) / 1e9 / repeats;
}

/**
 * Bytes that one run takes above what was held before it, at most: its results, all that it makes on the way, and the
 * workspaces of its kernels. Nothing made in the run's scope goes before all of it was computed, so that the figure does not
 * depend on how far JavaScript runs ahead of the device. Blocks are counted, which are up to an eighth larger than what was
 * asked for; those kept for reuse are not, whoever they served, so what the system shows for the process is more. What
 * libraries take for themselves (oneDNN) is not seen.
 */
export function peakMemory(run: () => unknown, device: string): number {
  synchronizeSync(device);
  const before = memory(device).bytes;
  resetPeakMemory(device);
  tidy(() => {
    run();
    synchronizeSync(device);
  });
  return memory(device).peakBytes - before;
}

export function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

interface Found {
  error?: number | undefined;
  peakBytes?: number | undefined;
}

export function rowOf(subject: Subject, sortedTimes: readonly number[], { error, peakBytes }: Found): Row {
  const [median, p10, p90] = [0.5, 0.1, 0.9].map((q) => quantile(sortedTimes, q)) as [number, number, number];
  return {
    ...subject,
    ...(error === undefined ? {} : { float64Error: error }),
    ...(peakBytes === undefined ? {} : { peakBytes }),
    median,
    p10,
    p90,
  };
}

/** Measures the subjects side by side. Beside a peer, each is given quiet cores and one run to warm them. */
export async function measure(subjects: readonly Subject[], options: MeasureOptions = {}): Promise<Row[]> {
  const { rounds = 9, atLeast = 0.02, device = 'cpu' } = options;
  const errors = subjects.map((subject) => subject.error?.());
  const repeats: number[] = [];
  const peaks: (number | undefined)[] = [];
  for (const subject of subjects) {
    await time(subject, 1, device); // first touch of memory, first compilation, what is made once
    peaks.push(subject.run && peakMemory(subject.run, device));
    repeats.push(Math.max(1, Math.ceil(atLeast / Math.max(await time(subject, 1, device), 1e-7))));
  }
  const times: number[][] = subjects.map(() => []);
  const besidePeers = subjects.some((subject) => subject.peerOf !== undefined);
  for (let round = 0; round < rounds; round++) {
    for (const [i, subject] of subjects.entries()) {
      if (besidePeers) {
        await setTimeout(restMilliseconds);
        await time(subject, 1, device);
      }
      times[i]!.push(await time(subject, repeats[i]!, device));
    }
  }
  return subjects.map((subject, i) => {
    const sorted = times[i]!.sort((a, b) => a - b);
    return rowOf(subject, sorted, { error: errors[i], peakBytes: peaks[i] });
  });
}
