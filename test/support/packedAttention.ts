// Packed sequences for tests of attention: operands, everything attention and its backward give, and the definition,
// sequence by sequence.
import { type AttentionOptions, attention, type DType, jvp, type Tensor, tensor, vjp } from '../../lib';
import { attentionGradientsOf } from './attentionGradients';
import { attentionOf } from './attentionOracle';
import { sample } from './checkOp';

export interface Packed {
  /** Queries and keys of each sequence. */
  lengths: readonly (readonly [number, number])[];
  heads: number;
  keyHeads: number;
  dim: number;
}

export const resultNames = ['o', 'to', 'gq', 'gk', 'gv', 'gtq', 'gtk', 'gtv'] as const;
/** Of q, k, v, tq, tk, tv, g, h, and of the results: does it have keys for rows. */
export const ofKeys = [false, true, true, false, true, true, false, false];
export const resultOfKeys = [false, false, false, true, true, false, true, true];

/** Where the sequences begin and the last one ends. */
export function offsetsOf({ lengths }: Packed, which: 0 | 1): number[] {
  const ends = [0];
  for (const pair of lengths) ends.push(ends[ends.length - 1]! + pair[which]);
  return ends;
}

export function shapesOf(packed: Packed): number[][] {
  const { heads, keyHeads, dim } = packed;
  const [queries, keys] = [offsetsOf(packed, 0), offsetsOf(packed, 1)].map((x) => x[x.length - 1]!) as [number, number];
  return ofKeys.map((isKeys) => (isKeys ? [keys, keyHeads, dim] : [queries, heads, dim]));
}

/** q, k, v, tq, tk, tv, g, h. */
export function tensorsOf(packed: Packed, dtype: DType, device: string, seed = 1): Tensor[] {
  return shapesOf(packed).map((shape, i) =>
    tensor(Float64Array.from(sample(shape, seed + i).values), { shape, dtype, device }),
  );
}

export function offsetTensors(packed: Packed, device: string) {
  const [queryOffsets, keyOffsets] = ([0, 1] as const).map((which) =>
    tensor(Int32Array.from(offsetsOf(packed, which)), { device }),
  ) as [Tensor, Tensor];
  return { queryOffsets, keyOffsets };
}

/** The rows of sequence i in what has `total` elements. */
export function rowsOf<T extends { length: number; subarray(from: number, to: number): T }>(
  values: T,
  packed: Packed,
  i: number,
  isKeys: boolean,
): T {
  const offsets = offsetsOf(packed, isKeys ? 1 : 0);
  const size = packed.dim * (isKeys ? packed.keyHeads : packed.heads);
  return values.subarray(offsets[i]! * size, offsets[i + 1]! * size);
}

/** All results, of q, k, v, tq, tk, tv, g, h. */
export function everything(operands: Tensor[], options: AttentionOptions): Float64Array[] {
  const [q, k, v, tq, tk, tv, g, h] = operands as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
  const f = (a: Tensor, b: Tensor, c: Tensor) => attention(a, b, c, options);
  const [values, pullback] = vjp(
    (...x: Tensor[]) => jvp(f, [x[0]!, x[1]!, x[2]!], [x[3], x[4], x[5]]),
    [q, k, v, tq, tk, tv],
  );
  const results = [...values, ...(pullback([g, h]) as Tensor[])].map((x) => Float64Array.from(x.dataSync()));
  pullback.dispose();
  return results;
}

/** The same operands' sequence i, as a batch of one in layout BSHD. */
export function alone(operands: readonly Tensor[], packed: Packed, i: number): Tensor[] {
  return operands.map((x, at) => {
    const values = rowsOf(Float64Array.from(x.dataSync()), packed, i, ofKeys[at]!);
    const [heads, dim] = x.shape.slice(1) as [number, number];
    const shape = [1, values.length / heads / dim, heads, dim];
    return tensor(values, { shape, dtype: x.dtype, device: x.device });
  });
}

/** Every result in float64 by the definition, and lse and mu. */
export function definition(operands: readonly Float64Array[], packed: Packed, options: AttentionOptions) {
  const { heads, keyHeads, dim, lengths } = packed;
  const ends = offsetsOf(packed, 0);
  const results = [0, 0, 0, 1, 2, 3, 4, 5].map((i) => new Float64Array(operands[i]!.length));
  const total = ends[ends.length - 1]!;
  const [lse, mu] = [new Float64Array(heads * total), new Float64Array(heads * total)];
  lengths.forEach(([queries, keys], i) => {
    const own = operands.map((x, at) => rowsOf(x, packed, i, ofKeys[at]!));
    const sizes = { batch: 1, heads, keyHeads, queries, keys, dim };
    const masks = { layout: 'BSHD' as const, causal: options.causal ?? false, scale: options.scale ?? dim ** -0.5 };
    const found = attentionOf(own.slice(0, 6), sizes, masks);
    for (let h = 0; h < heads; h++) {
      lse.set(found.lse.subarray(h * queries, (h + 1) * queries), h * total + ends[i]!);
      mu.set(found.mu.subarray(h * queries, (h + 1) * queries), h * total + ends[i]!);
    }
    if (queries === 0 || keys === 0) return;
    const gradients = attentionGradientsOf(own.slice(0, 6), [own[6]!, own[7]!], sizes, masks);
    [found.o, found.to, ...gradients].forEach((x, at) => {
      rowsOf(results[at]!, packed, i, resultOfKeys[at]!).set(x);
    });
  });
  return { results, lse, mu };
}
