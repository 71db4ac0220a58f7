// Attention, its tangent and the gradients of both in bfloat16 on the CPU, straight from the addon: results and their errors
// against float64, beside those of eager 16-bit mathematics.
import { features, Tensor, tensor } from '../../lib';
import { native } from '../../lib/native';
import { attentionGradientsOf } from './attentionGradients';
import { type AttentionMasks, type AttentionSizes, attentionOf, rounding } from './attentionOracle';
import { operandsOf, relativeNorm, settingsOf, shapesOf, sizesOf } from './fusedAttention';

export const resultNames = ['o', 'to', 'gq', 'gk', 'gv', 'gtq', 'gtk', 'gtv'] as const;
type Handle = never;

/** operands: q, k, v, tq, tk, tv, g, h. -> results in the order of `resultNames`. */
export function attend(
  operands: readonly Float64Array[],
  sizes: AttentionSizes,
  masks: AttentionMasks = {},
  dtype: 'bfloat16' | 'float32' = 'bfloat16',
): Float64Array[] {
  const { layout, lengths } = masks;
  const shapes = shapesOf(sizes, layout);
  const [q, k, v, tq, tk, tv, g, h] = operands.map(
    (x, i) => tensor(x, { shape: shapes[i]!, dtype })._handle as Handle,
  ) as [Handle, Handle, Handle, Handle, Handle, Handle, Handle, Handle];
  const settings = settingsOf(sizes.dim, masks, lengths ? tensor(Int32Array.from(lengths)) : null);
  const numbers = (x: unknown) => Float64Array.from(new Tensor(x as Handle).dataSync() as ArrayLike<number>, Number);
  const [o, to, lse, mu] = native.attentionJvp(q, k, v, tq, tk, tv, ...settings) as unknown as Handle[];
  const gradients = native.attentionJvpVjp(
    ...([
      q,
      k,
      v,
      tq,
      tk,
      tv,
      o,
      to,
      lse,
      mu,
      g,
      h,
      ...settings,
      true,
      [1, 1, 1, 1, 1, 1, 0, 0],
    ] as unknown as Parameters<typeof native.attentionJvpVjp>),
  ) as unknown as Handle[];
  return [o, to, ...gradients.slice(0, 6)].map(numbers);
}

export interface Errors {
  ours: number;
  eager: number;
}

/** The errors of all results, relative to the norms of the results. */
export function errorsOf(
  operands: readonly Float64Array[],
  sizes: AttentionSizes,
  masks: AttentionMasks = {},
): Record<string, Errors> {
  const round = rounding('bfloat16');
  const [given, cotangents] = [operands.slice(0, 6), [operands[6]!, operands[7]!] as [Float64Array, Float64Array]];
  const [exact, eager] = [undefined, round].map((how) => {
    const { o, to } = attentionOf(given, sizes, masks, how);
    return [o, to, ...attentionGradientsOf(given, cotangents, sizes, masks, how)];
  }) as [Float64Array[], Float64Array[]];
  const got = attend(operands, sizes, masks);
  return Object.fromEntries(
    resultNames.map((name, i) => [
      name,
      { ours: relativeNorm(got[i]!, exact[i]!), eager: relativeNorm(eager[i]!, exact[i]!) },
    ]),
  );
}

/** Whether this process multiplies bfloat16 as it is, and results in bfloat16 and in float32 of the same data. */
export function attendInBoth() {
  const sizes = sizesOf(100, 150, 40, { heads: 4, keyHeads: 2 });
  const operands = operandsOf(sizes, 'bfloat16');
  const [narrow, wide] = (['bfloat16', 'float32'] as const).map((dtype) =>
    attend(operands, sizes, { causal: true }, dtype).map((x) => [...x]),
  );
  return { bfloat16: features().bfloat16, narrow: narrow!, wide: wide! };
}
