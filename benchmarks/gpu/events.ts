// Times runs on the device's own clock: an event before each run and one behind it, with the caches written over in between
// and the runs' inputs taken in turn. What JavaScript spends on queueing a run is a figure of its own.
import { full, synchronizeSync, tidy } from '../../lib';
import { elapsedSeconds, recordEvent } from '../../lib/timing';
import {
  type MeasureOptions,
  peakMemory,
  quantile,
  type Row,
  rowOf,
  type Subject,
  secondsOfRuns,
} from '../support/measure';

/** A subject over several inputs of the same kind. */
export interface Rotated extends Subject {
  /** Each over inputs of its own. */
  runs: readonly (() => unknown)[];
}

/** Pairs up subjects of groups that were made alike. */
export function rotate([first, ...others]: readonly (readonly Subject[])[]): Rotated[] {
  return first!.map((subject, i) => ({ ...subject, runs: [subject, ...others.map((each) => each[i]!)].map(runOf) }));
}

function runOf({ name, run }: Subject): () => unknown {
  if (!run) throw new Error(`benchmarks: '${name}' has nothing to run on a device`);
  return run;
}

/** Seconds of each of `count` runs; `before` each of them comes what is not timed. */
export function eventSeconds(
  device: string,
  count: number,
  run: (turn: number) => unknown,
  before: () => void = () => {},
): number[] {
  const [from, to]: [number[], number[]] = [[], []];
  for (let turn = 0; turn < count; turn++) {
    before();
    from.push(recordEvent(device));
    tidy(() => {
      run(turn);
    });
    to.push(recordEvent(device));
  }
  return elapsedSeconds(from, to);
}

/** Memory that is written between runs, so that none finds its inputs or its outputs in a cache. */
export class ColdCache {
  /** Of one write. */
  readonly seconds: number;

  constructor(
    private readonly device: string,
    readonly bytes: number,
  ) {
    this.write(1);
    this.seconds = quantile(
      eventSeconds(device, 9, () => this.fill()).sort((a, b) => a - b),
      0.5,
    );
  }

  write(times: number): void {
    for (let i = 0; i < times; i++) tidy(() => this.fill());
  }

  private fill(): void {
    full([Math.ceil(this.bytes / 4)], 1, { device: this.device });
  }
}

export interface EventOptions extends MeasureOptions {
  device: string;
  cold: ColdCache;
}

// No more than this at once, as more would wait for room in the queue.
const mostQueued = 100;
// The longest that launching one run is taken to need, and the least that one write is taken to last.
const longestLaunch = 1e-3;
const shortestWrite = 1e-6;

/** Seconds that JavaScript needs to queue a run, without waiting for the device. */
function launchSeconds(run: (turn: number) => unknown, count: number, device: string): number {
  synchronizeSync(device);
  const start = process.hrtime.bigint();
  for (let turn = 0; turn < count; turn++) {
    tidy(() => {
      run(turn);
    });
  }
  const seconds = Number(process.hrtime.bigint() - start) / 1e9 / count;
  synchronizeSync(device);
  return seconds;
}

const sorted = (values: number[]) => values.sort((a, b) => a - b);

/**
 * Measures subjects side by side, round by round. The times are those of all runs. Before each run the caches are written over
 * for at least as long as it takes the host to launch a run, so that the device has the run in its queue when it comes to it
 * and never waits between a pair of events.
 */
export function measureByEvents(subjects: readonly Rotated[], options: EventOptions): Row[] {
  const { rounds = 9, atLeast = 0.02, device, cold } = options;
  const plans = subjects.map((subject) => {
    const { runs } = subject;
    let turn = 0;
    const run = () => runs[turn++ % runs.length]!();
    const error = subject.error?.();
    secondsOfRuns(run, runs.length, device); // first touch of memory, what is made once
    const peakBytes = peakMemory(run, device);
    const wall = Math.max(secondsOfRuns(run, 1, device), 1e-7);
    const writes = Math.max(1, Math.ceil(Math.min(wall, longestLaunch) / Math.max(cold.seconds, shortestWrite)));
    const count = Math.min(mostQueued, Math.max(1, Math.ceil(atLeast / (wall + writes * cold.seconds))));
    return { subject, run, error, peakBytes, writes, count, times: [] as number[], launches: [] as number[] };
  });
  for (let round = 0; round < rounds; round++) {
    for (const { run, count, writes, times, launches } of plans) {
      times.push(...eventSeconds(device, count, run, () => cold.write(writes)));
      launches.push(launchSeconds(run, count, device));
    }
  }
  return plans.map(({ subject: { runs, ...subject }, error, peakBytes, times, launches }) => ({
    ...rowOf(subject, sorted(times), { error, peakBytes }),
    launchSeconds: quantile(sorted(launches), 0.5),
    inputs: runs.length,
  }));
}
