// Operands for tests of attention: shapes by layout, and an adversary's data in place of what is normal.
import { type Sample, sample } from './checkOp';

export interface Sizes {
  batch: number;
  heads: number;
  keyHeads?: number;
  queries: number;
  keys: number;
  dim: number;
}
export interface Shapes {
  q: number[];
  k: number[];
}

export function shapesOf({ batch, heads, keyHeads = heads, queries, keys, dim }: Sizes, layout = 'BHSD'): Shapes {
  return layout === 'BHSD'
    ? { q: [batch, heads, queries, dim], k: [batch, keyHeads, keys, dim] }
    : { q: [batch, queries, heads, dim], k: [batch, keys, keyHeads, dim] };
}

export type Adversary = 'plain' | 'sharp' | 'key offset' | 'one dominant key';

/** q, k, v, tq, tk, tv, and the cotangents g and h. */
export function operands(sizes: Sizes, layout: string, adversary: Adversary = 'plain'): Sample[] {
  const { q, k } = shapesOf(sizes, layout);
  const samples = [q, k, k, q, k, k, q, q].map((shape, i) => sample(shape, i + 1));
  const change = (i: number, f: (value: number, at: number) => number) => {
    samples[i]!.values = Float64Array.from(samples[i]!.values, f);
  };
  if (adversary === 'sharp') change(0, (x) => 8 * x);
  if (adversary === 'key offset') change(1, (x, at) => x + 8 * Math.sin(1 + (at % sizes.dim)));
  if (adversary === 'one dominant key') {
    change(0, (x) => 1 + 0.1 * x);
    change(1, (x, at) => (Math.floor(at / sizes.dim) % sizes.keys === 1 ? 0.8 : 0.1 * x));
  }
  return samples;
}
