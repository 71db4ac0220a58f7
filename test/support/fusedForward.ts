// The 16-bit forward of attention with its tangent as tests call it, straight from the addon, and what it may err: no more
// than eager 16-bit mathematics against float64.
import { Tensor } from '../../lib';
import { native } from '../../lib/native';
import {
  type AttentionMasks,
  type AttentionSizes,
  type AttentionValues,
  attentionOf,
  type Narrow,
  rounding,
} from './attentionOracle';
import { on } from './deviceLibrary';
import { epsilon, relativeNorm, settingsOf, shapesOf, worst } from './fusedAttention';

/** Which tangents are given: of q, k, v. */
export type Presence = readonly [q: boolean, k: boolean, v: boolean];
export const all: Presence = [true, true, true];

/** Relative errors of whole results: a rounding of the result, one of the weights, and room. */
export const relative: Readonly<Record<Narrow, number>> = { bfloat16: 3.5e-3, float16: 4.5e-4 };

export interface ForwardCase {
  /** q, k, v, tq, tk, tv. */
  operands: readonly Float64Array[];
  sizes: AttentionSizes;
  dtype: Narrow;
  masks?: AttentionMasks;
  present?: Presence;
  /** Without tangents: to and mu are empty. */
  plain?: boolean;
}

export function forwardOf(
  device: string,
  { operands, sizes, dtype, masks = {}, present = all, plain = false }: ForwardCase,
): AttentionValues {
  const { tensor } = on(device);
  const numbers = (handle: unknown) =>
    Float64Array.from(new Tensor(handle as never).dataSync() as ArrayLike<number>, Number);
  const { layout, lengths } = masks;
  const shapes = shapesOf(sizes, layout);
  const upload = (i: number) => tensor(operands[i]!, { shape: shapes[i]!, dtype })._handle;
  const [q, k, v] = [0, 1, 2].map(upload) as [never, never, never];
  const settings = settingsOf(sizes.dim, masks, lengths ? tensor(Int32Array.from(lengths)) : null);
  if (plain) {
    const [o, lse] = native.attention(q, k, v, ...settings).map(numbers) as Float64Array[];
    return { o: o!, lse: lse!, to: new Float64Array(0), mu: new Float64Array(0) };
  }
  const [tq, tk, tv] = present.map((given, i) => (given ? upload(3 + i) : null)) as [never, never, never];
  const results = native.attentionJvp(q, k, v, tq, tk, tv, ...settings);
  const [o, to, lse, mu] = results.map(numbers) as [Float64Array, Float64Array, Float64Array, Float64Array];
  return { o, to, lse, mu };
}

/** Of a case with all tangents. */
export function expectForward(got: AttentionValues, { operands, sizes, dtype, masks = {} }: ForwardCase): void {
  const expected = attentionOf(operands, sizes, masks);
  const eager = attentionOf(operands, sizes, masks, rounding(dtype));
  for (const name of ['o', 'to'] as const) {
    const largest = worst(new Float64Array(expected[name].length), expected[name]);
    const most = 2 * worst(eager[name], expected[name]) + 2 * epsilon[dtype] * largest;
    expect(worst(got[name], expected[name])).toBeLessThanOrEqual(most);
    const room = Math.max(relative[dtype], 1.2 * relativeNorm(eager[name], expected[name]));
    expect(relativeNorm(got[name], expected[name])).toBeLessThanOrEqual(room);
  }
  const spread = worst(new Float64Array(expected.mu.length), expected.mu);
  for (const [i, lse] of expected.lse.entries()) {
    if (lse === Number.POSITIVE_INFINITY) expect([got.lse[i], got.mu[i]]).toEqual([lse, 0]);
    else expect(Math.abs(got.lse[i]! - lse)).toBeLessThanOrEqual(1e-5 * (1 + Math.abs(lse)));
    expect(Math.abs(got.mu[i]! - expected.mu[i]!)).toBeLessThanOrEqual(1e-5 * (1 + spread));
  }
}
