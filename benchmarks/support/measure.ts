// Times work on the device's stream. What is compared runs alternately, so that both meet the same machine; the median
// of the rounds counts.
import { synchronizeSync, tidy } from '../../lib';

export interface Subject {
  name: string;
  run: () => unknown;
  /** Floating-point operations of one run, by the convention the benchmark states. */
  flops?: number;
  /** Bytes one run must move at least: every input read once, every output written once. */
  bytes?: number;
}

export interface Row extends Subject {
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
}

function time(run: () => unknown, repeats: number): number {
  synchronizeSync();
  const start = process.hrtime.bigint();
  for (let i = 0; i < repeats; i++) {
    tidy(() => {
      run();
    });
  }
  synchronizeSync();
  return Number(process.hrtime.bigint() - start) / 1e9 / repeats;
}

function quantile(sorted: readonly number[], q: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

/** Measures the subjects side by side. */
export function measure(subjects: readonly Subject[], options: MeasureOptions = {}): Row[] {
  const { rounds = 9, atLeast = 0.02 } = options;
  const repeats = subjects.map(({ run }) => {
    time(run, 1); // first touch of memory, first compilation
    return Math.max(1, Math.ceil(atLeast / Math.max(time(run, 1), 1e-7)));
  });
  const times: number[][] = subjects.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, { run }] of subjects.entries()) times[i]!.push(time(run, repeats[i]!));
  }
  return subjects.map((subject, i) => {
    const sorted = times[i]!.sort((a, b) => a - b);
    return { ...subject, median: quantile(sorted, 0.5), p10: quantile(sorted, 0.1), p90: quantile(sorted, 0.9) };
  });
}
