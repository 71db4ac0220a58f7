// What a traced tensor carries. Every gradient or derivative in progress is a trace with a level; an operation is handled
// by the highest level among its inputs, whose rules call operations again, on values one level down. So reverse mode over
// forward mode, forward over reverse, and any nesting, follow from each alone.

import type { Tensor } from '../tensor';
import type { Op } from './op';

export interface Trace {
  readonly level: number;
  readonly kind: 'tape' | 'jvp';
  /** False once the function it traced has returned. */
  active: boolean;
  /** Applies `op` to inputs of which at least one belongs to this trace and none to a higher one. */
  process(op: Op, inputs: readonly (Tensor | null)[], attributes: unknown): (Tensor | null)[];
}

/** The traced part of a tensor: which trace, the value one level down, and what the trace adds to it. */
export interface Traced {
  readonly trace: Trace;
  readonly primal: Tensor;
  /** Forward mode: null is a symbolic zero. */
  readonly tangent: Tensor | null;
  /** Reverse mode: where on the tape this value came from. */
  readonly node: number;
  readonly output: number;
}

const live = new Set<Trace>();
let depth = 0;

/** The traces now in progress. */
export function liveTraces(): ReadonlySet<Trace> {
  return new Set(live);
}

/** The level for a trace that is deeper than everything now in progress. */
export function nextLevel(): number {
  return depth + 1;
}

/** Runs `fn` with a trace of its own, one level deeper than everything now in progress. */
export function withTrace<T extends Trace, R>(make: (level: number) => T, fn: (trace: T) => R): R {
  depth += 1;
  const trace = make(depth);
  live.add(trace);
  try {
    return fn(trace);
  } finally {
    live.delete(trace);
    depth -= 1;
  }
}
