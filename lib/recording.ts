// What operations ask and tell while a step is recorded (lib/graph.ts): numbers that change from step to step are asked for
// again before each replay.
import { ArgumentError } from './errors';

/** The numbers of one operation of a recording. */
export interface Varying {
  /** Those of the step to come; takes them from where they come from (a generator moves on, a count goes up). */
  numbers(): readonly number[];
  /** Puts back what the last call of `numbers` took. */
  undo(): void;
}

let current: Varying[] | null = null;

/** Whether this thread records a step now. */
export function isRecording(): boolean {
  return current !== null;
}

/** Called for each operation with varying numbers, in the order of the calls into the addon. */
export function vary(source: Varying): void {
  current?.push(source);
}

export function refuseWhileRecording(op: string, why: string): void {
  if (current !== null) throw new ArgumentError(op, `a step is being recorded: ${why}`);
}

/** Runs `fn`, which records; what varies in it is added to `sources`. */
export function record<T>(sources: Varying[], fn: () => T): T {
  current = sources;
  try {
    return fn();
  } finally {
    current = null;
  }
}

/** Calls `run` with the numbers of the step to come; where it throws, they are put back. */
export function withNumbers<T>(sources: readonly Varying[], run: (numbers: number[]) => T): T {
  const taken: Varying[] = [];
  try {
    const numbers: number[] = [];
    for (const source of sources) {
      taken.push(source);
      for (const number of source.numbers()) numbers.push(number);
    }
    return run(numbers);
  } catch (error) {
    for (const source of taken.reverse()) source.undo();
    throw error;
  }
}
