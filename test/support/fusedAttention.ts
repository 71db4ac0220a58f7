// What the tests of attention's 16-bit kernels share: operands, the addon's arguments, errors, and other emulated GPUs.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import type { Tensor } from '../../lib';
import { attentionSettings } from '../../lib/ops/attention';
import { attentionGradientsOf } from './attentionGradients';
import { type AttentionMasks, type AttentionSizes, type Narrow, rounding } from './attentionOracle';
import { sample } from './checkOp';

export const narrow: readonly Narrow[] = ['bfloat16', 'float16'];
export const epsilon: Readonly<Record<Narrow, number>> = { bfloat16: 2 ** -8, float16: 2 ** -11 };

export const sizesOf = (
  queries: number,
  keys: number,
  dim: number,
  more: Partial<AttentionSizes> = {},
): AttentionSizes => {
  const heads = more.heads ?? 1;
  return { batch: 1, heads, keyHeads: heads, queries, keys, dim, ...more };
};

/** Shapes of q, k, v, tq, tk, tv, and of the cotangents g and h. */
export const shapesOf = ({ batch, heads, keyHeads, queries, keys, dim }: AttentionSizes, layout = 'BHSD') =>
  [0, 1, 1, 0, 1, 1, 0, 0].map((ofKeys) => {
    const [h, s] = ofKeys ? [keyHeads, keys] : [heads, queries];
    return layout === 'BHSD' ? [batch, h, s, dim] : [batch, s, h, dim];
  });

/** q, k, v, tq, tk, tv, and the cotangents g and h. */
export function operandsOf(sizes: AttentionSizes, dtype: Narrow, layout?: string): Float64Array[] {
  const round = rounding(dtype);
  return shapesOf(sizes, layout).map((shape, i) => round(Float64Array.from(sample(shape, i + 1).values)));
}

/** Masks, layouts and scales, with sizes that leave tiles ragged. */
export const masked: readonly (readonly [string, AttentionSizes, AttentionMasks])[] = [
  ['a causal mask', sizesOf(80, 80, 64), { causal: true }],
  ['a causal mask on wide heads', sizesOf(40, 35, 136), { causal: true }],
  [
    'all of it on wide heads',
    sizesOf(20, 35, 248, { batch: 2, heads: 2, keyHeads: 1 }),
    { lengths: [35, 17], causal: true, layout: 'BSHD', scale: 0.2 },
  ],
  ['a causal mask over a longer past', sizesOf(20, 100, 72), { causal: true }],
  ['a causal mask with more queries than keys', sizesOf(150, 40, 32), { causal: true }],
  ['grouped query heads', sizesOf(18, 40, 40, { batch: 2, heads: 4, keyHeads: 2 }), {}],
  [
    'one key head for all, heads inside',
    sizesOf(18, 40, 80, { heads: 3, keyHeads: 1 }),
    { layout: 'BSHD', causal: true },
  ],
  ['heads inside', sizesOf(33, 37, 128, { batch: 2, heads: 2 }), { layout: 'BSHD' }],
  ['a number of keys per row, none included', sizesOf(9, 70, 64, { batch: 4 }), { lengths: [70, 1, 0, 33] }],
  [
    'all of it',
    sizesOf(40, 70, 96, { batch: 4, heads: 2, keyHeads: 1 }),
    { lengths: [70, 3, 0, 65], causal: true, layout: 'BSHD', scale: 0.3 },
  ],
  ['a negative scale', sizesOf(17, 33, 8), { scale: -0.7 }],
  ['a scale of zero', sizesOf(17, 33, 8), { scale: 0 }],
];

/** The addon's arguments after the operands. */
export function settingsOf(dim: number, masks: AttentionMasks, keyLengths: Tensor | null) {
  const { layout = 'BHSD', causal = false, scale = 1 / Math.sqrt(dim) } = masks;
  const attributes = { layout, causal, scale, normalize: false, eps: 1e-6, centerKeys: false, deterministic: true };
  return attentionSettings([null, null, keyLengths?._handle], attributes);
}

/** The adversary's data in place of what is normal. */
export const adversaries = ['key offset', 'sharp', 'one dominant key', 'identical keys', 'large tangents'] as const;

export function makeAdversarial(
  adversary: (typeof adversaries)[number],
  given: Float64Array[],
  dtype: Narrow,
  dim: number,
  sharpness: number,
  dominant = 40,
): void {
  const change = (i: number, f: (value: number, at: number) => number) => {
    given[i] = rounding(dtype)(given[i]!.map(f));
  };
  if (adversary === 'key offset') change(1, (x, at) => x + 8 * Math.sin(1 + (at % dim)));
  if (adversary === 'sharp') change(0, (x) => sharpness * x);
  if (adversary === 'one dominant key') {
    change(0, (x) => 1 + 0.1 * x);
    change(1, (x, at) => (Math.floor(at / dim) === dominant ? 3 : 0.1 * x));
  }
  if (adversary === 'identical keys') change(1, (_, at) => Math.sin(at % dim));
  if (adversary === 'large tangents') for (const i of [3, 4, 5]) change(i, (x) => 50 * x);
}

/** The largest difference. */
export function worst(got: Float64Array, expected: Float64Array): number {
  return got.reduce((most, x, i) => (x === expected[i] ? most : Math.max(most, Math.abs(x - expected[i]!))), 0);
}

export function relativeNorm(got: Float64Array, expected: Float64Array): number {
  const squares = expected.reduce((sum, x) => sum + x * x, 0);
  return Math.sqrt(got.reduce((sum, x, i) => sum + (x - expected[i]!) ** 2, 0) / Math.max(squares, 1e-30));
}

export const gradientNames = ['gq', 'gk', 'gv', 'gtq', 'gtk', 'gtv'] as const;
// Relative errors of whole gradients: roundings of the result, of the weights, and of the outputs; and room.
export const gradientRoom: Readonly<Record<Narrow, number>> = { bfloat16: 4e-3, float16: 5e-4 };

/** Which gradients err more than eager 16-bit mathematics does; one that is not wanted is null. */
export function gradientExcesses(
  got: readonly (Float64Array | null)[],
  operands: readonly Float64Array[],
  sizes: AttentionSizes,
  dtype: Narrow,
  masks: AttentionMasks = {},
) {
  const [given, cotangents] = [operands.slice(0, 6), [operands[6]!, operands[7]!] as [Float64Array, Float64Array]];
  const expected = attentionGradientsOf(given, cotangents, sizes, masks);
  const eager = attentionGradientsOf(given, cotangents, sizes, masks, rounding(dtype));
  return gradientNames.flatMap((name, i) => {
    const [mine, exact, rounded] = [got[i], expected[i]!, eager[i]!];
    if (!mine) return [];
    const largest = worst(new Float64Array(exact.length), exact);
    const most = 3 * worst(rounded, exact) + 2 * epsilon[dtype] * largest + 1e-6;
    const room = largest > 1e-6 ? Math.max(gradientRoom[dtype], 1.5 * relativeNorm(rounded, exact)) : Infinity;
    const [error, norm] = [worst(mine, exact), relativeNorm(mine, exact)];
    return error <= most && norm <= room ? [] : [{ name, error, most, norm, room }];
  });
}

/** Runs a program of test/cuda/support that prints digests, on another emulated GPU or in another schedule. */
export function digestsOf(program: string, env: Record<string, string>) {
  const root = join(__dirname, '..', '..');
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['-r', join(root, 'scripts', 'typescript.cjs'), join(root, 'test', 'cuda', 'support', program)],
    { encoding: 'utf8', env: { ...process.env, ...env } },
  );
  if (status !== 0) throw new Error(stderr);
  return { bits: JSON.parse(stdout) as Record<string, string>, stderr };
}
