// RMS normalisation with what transformers put around it. Value and tangent, and the backward of both, are one pass each.
import { type Apply, defineOp } from '../autograd/op';
import { zerosLike } from '../create';
import { native } from '../native';
import type { Tensor } from '../tensor';
import { add, div, mul, sqrt, square, sub } from './elementwise';
import { mean, sum } from './reduce';
import { concat, expandDims, reshape, slice } from './shape';

export type MaybeTensor = Tensor | null;

export interface Eps {
  eps: number;
}

export interface RmsNormOptions {
  /** Added to the mean square before the root. Default 1e-6. */
  eps?: number;
}

export const defaultEps = 1e-6;

export function plus(a: MaybeTensor, b: MaybeTensor): MaybeTensor {
  return a && b ? add(a, b) : (a ?? b);
}

export function times(a: MaybeTensor, b: MaybeTensor): MaybeTensor {
  return a && b ? mul(a, b) : null;
}

function inverseRms(x: Tensor, eps: number): Tensor {
  return div(1, sqrt(add(mean(square(x), -1, { keepDims: true }), eps)));
}

// x̂ and its tangent, in plain ops.
export function unit(x: Tensor, tx: MaybeTensor, eps: number): [xHat: Tensor, u: MaybeTensor] {
  const r = inverseRms(x, eps);
  const xHat = mul(x, r);
  return [xHat, tx && mul(r, sub(tx, mul(xHat, mean(mul(xHat, tx), -1, { keepDims: true }))))];
}

/**
 * The gradients of a normalisation's affine map in plain ops: y = x̂ a + b, ty = u a + x̂ ta + tb, with a and ta already of
 * x's shape. -> gx, gtx, and what the maps' gradients are the row sums of.
 */
export function unitVjp(
  x: Tensor,
  tx: MaybeTensor,
  a: MaybeTensor,
  ta: MaybeTensor,
  g: MaybeTensor,
  h: MaybeTensor,
  eps: number,
): { gx: MaybeTensor; gtx: MaybeTensor; ga: MaybeTensor; gta: MaybeTensor } {
  const rowMean = (t: MaybeTensor) => t && mean(t, -1, { keepDims: true });
  const minus = (p: MaybeTensor, q: MaybeTensor) => (p && q ? sub(p, q) : (p ?? q?.neg() ?? null));
  const r = inverseRms(x, eps);
  const xHat = mul(x, r);
  const c = rowMean(times(xHat, tx));
  const u = tx && mul(r, sub(tx, mul(xHat, c!)));
  const scaled = (t: MaybeTensor) => (a ? times(t, a) : t);
  const gw = plus(scaled(g), times(h, ta));
  const hw = scaled(h);
  const inG = rowMean(times(gw, xHat));
  const inH = rowMean(times(hw, xHat));
  const withTx = rowMean(times(hw, tx));
  const first = minus(gw, times(xHat, inG));
  let gx = first && mul(r, first);
  if (hw && tx) {
    const along = sub(withTx!, mul(mul(inH!, c!), 3));
    const second = add(add(mul(xHat, along), mul(hw, c!)), mul(tx, inH!));
    gx = minus(gx, mul(square(r), second));
  }
  return {
    gx,
    gtx: hw && mul(r, sub(hw, mul(xHat, inH!))),
    ga: plus(times(g, xHat), times(h, u)),
    gta: times(h, xHat),
  };
}

const rmsNormOp: Apply<Eps> = defineOp<Eps>('rmsNorm', {
  forward: ([x, weight], { eps }) => native.rmsNorm(x!, weight ?? null, eps),
  vjp: ([g], { inputs: [x, weight], needs, attributes: { eps } }) =>
    rmsNormJvpVjp([x!, weight ?? null, null, null], g ?? null, null, [needs[0]!, needs[1]!, false, false], eps).slice(
      0,
      2,
    ),
  jvp: ([x, weight], [tx, tweight], { eps }) =>
    rmsNormJvp([x!, weight ?? null], [tx ?? null, tweight ?? null], { eps }) as [Tensor, Tensor],
});

/**
 * Root-mean-square normalisation over the last axis: x (mean x² + eps)^-½ ∘ weight (Zhang and Sennrich, arXiv 1910.07467).
 * x [..., D], weight [D] or null -> [..., D]
 *
 * @throws ShapeError if weight is not [D]; ArgumentError unless eps is positive and finite
 */
export function rmsNorm(x: Tensor, weight: Tensor | null = null, options: RmsNormOptions = {}): Tensor {
  return rmsNormOp([x, weight], { eps: options.eps ?? defaultEps })[0]!;
}

/**
 * {@link rmsNorm} of queries and keys per head, each with its weight. q [..., D], k [..., D], weights [D] or null. Where q
 * and k come from one projection, {@link splitQkv} does it on the way.
 */
export function qkNorm(
  q: Tensor,
  k: Tensor,
  qWeight: Tensor | null = null,
  kWeight: Tensor | null = null,
  options: RmsNormOptions = {},
): [q: Tensor, k: Tensor] {
  return [rmsNorm(q, qWeight, options), rmsNorm(k, kWeight, options)];
}

const rmsNormJvpOp: Apply<Eps> = defineOp<Eps>('rmsNormJvp', {
  forward: ([x, weight, tx, tweight], { eps }) =>
    native.rmsNormJvp(x!, weight ?? null, tx ?? null, tweight ?? null, eps),
  vjp: ([g, h], { inputs: [x, weight, tx, tweight], needs, attributes: { eps } }) =>
    rmsNormJvpVjp([x!, weight ?? null, tx ?? null, tweight ?? null], g ?? null, h ?? null, needs, eps),
  composition: ([x, weight, tx, tweight], { eps }) => {
    const [xHat, u] = unit(x!, tx ?? null, eps);
    const scaled = (t: MaybeTensor) => (weight ? times(t, weight) : t);
    return [scaled(xHat), plus(scaled(u), times(xHat, tweight ?? null))];
  },
});

/** {@link rmsNorm} and its tangent in one pass. -> [y, ty], each [..., D] */
export function rmsNormJvp(
  [x, weight]: readonly [Tensor, MaybeTensor],
  [tx, tweight]: readonly [MaybeTensor, MaybeTensor],
  options: RmsNormOptions = {},
): [Tensor, Tensor] {
  return rmsNormJvpOp([x, weight, tx, tweight], { eps: options.eps ?? defaultEps }) as [Tensor, Tensor];
}

const rmsNormJvpVjpOp = defineOp<Eps & { needs: readonly boolean[] }>('rmsNormJvpVjp', {
  forward: ([x, weight, tx, tweight, g, h], { eps, needs }) =>
    native.rmsNormJvpVjp(
      x!,
      weight ?? null,
      tx ?? null,
      tweight ?? null,
      g ?? null,
      h ?? null,
      eps,
      needs[0]!,
      needs[1]!,
      needs[2]!,
      needs[3]!,
    ),
  composition: ([x, weight, tx, tweight, g, h], { eps, needs }) => {
    const { gx, gtx, ga, gta } = unitVjp(x!, tx!, weight!, tweight!, g!, h!, eps);
    const rows = (t: MaybeTensor) => t && sum(reshape(t, [-1, x!.shape[x!.rank - 1]!]), 0);
    return [gx, weight ? rows(ga) : null, gtx, weight ? rows(gta) : null].map((t, i) => (needs[i] ? t : null));
  },
});

/** Pulls cotangents of {@link rmsNorm} (g) and of its tangent (h) back to [x, weight, tx, tweight]; null if not needed. */
export function rmsNormJvpVjp(
  [x, weight, tx, tweight]: readonly [Tensor, MaybeTensor, MaybeTensor, MaybeTensor],
  g: MaybeTensor,
  h: MaybeTensor,
  needs: readonly boolean[],
  eps = defaultEps,
): MaybeTensor[] {
  return rmsNormJvpVjpOp([x, weight, tx, tweight, g, h], { eps, needs });
}

// [B, D] beside [B, N, D].
export function perToken(t: MaybeTensor): MaybeTensor {
  return t && expandDims(t, 1);
}

const gatedResidualOp: Apply = defineOp('gatedResidual', {
  forward: ([x, gate, z]) => native.gatedResidual(x!, gate!, z!),
  vjp: ([g], { inputs: [, gate, z], needs }) => {
    const [ggate, gz] = gatedResidualJvpVjpOp([gate!, z!, null, null, g!, null], [needs[1]!, needs[2]!, false, false]);
    return [g!, ggate!, gz!];
  },
  jvp: ([x, gate, z], [tx, tgate, tz]) =>
    gatedResidualJvpOp([x!, gate!, z!, tx!, tgate!, tz!], undefined) as [Tensor, Tensor],
});

/** x + gate ∘ z, the gate per sample. x [B, N, D], gate [B, D], z [B, N, D] -> [B, N, D] */
export function gatedResidual(x: Tensor, gate: Tensor, z: Tensor): Tensor {
  return gatedResidualOp([x, gate, z], undefined)[0]!;
}

const gatedResidualJvpOp: Apply = defineOp('gatedResidualJvp', {
  forward: ([x, gate, z, tx, tgate, tz]) =>
    native.gatedResidualJvp(x!, gate!, z!, tx ?? null, tgate ?? null, tz ?? null),
  vjp: ([g, h], { inputs: [, gate, z, , tgate, tz], needs }) => {
    const [ggate, gz, gtgate, gtz] = gatedResidualJvpVjpOp(
      [gate!, z!, tgate!, tz!, g!, h!],
      [needs[1]!, needs[2]!, needs[4]!, needs[5]!],
    );
    return [g!, ggate!, gz!, h!, gtgate!, gtz!];
  },
  composition: ([x, gate, z, tx, tgate, tz]) => [
    add(x!, mul(perToken(gate!)!, z!)),
    plus(plus(tx!, times(perToken(tgate!), z!)), times(perToken(gate!), tz!)),
  ],
});

const gatedResidualJvpVjpOp: Apply<readonly boolean[]> = defineOp<readonly boolean[]>('gatedResidualJvpVjp', {
  forward: ([gate, z, tgate, tz, g, h], needs) =>
    native.gatedResidualJvpVjp(
      gate!,
      z!,
      tgate ?? null,
      tz ?? null,
      g ?? null,
      h ?? null,
      needs[0]!,
      needs[1]!,
      needs[2]!,
      needs[3]!,
    ),
  composition: ([gate, z, tgate, tz, g, h], needs) => {
    const tokens = (t: MaybeTensor) => t && sum(t, 1);
    const results = [
      () => tokens(plus(times(g!, z!), times(h!, tz!))),
      () => plus(times(g!, perToken(gate!)), times(h!, perToken(tgate!))),
      () => tokens(times(h!, z!)),
      () => times(h!, perToken(gate!)),
    ];
    return results.map((result, i) => (needs[i] ? result() : null));
  },
});

interface SplitQkv extends Eps {
  heads: number;
  normalize: boolean;
}

export interface SplitQkvOptions extends RmsNormOptions {
  heads: number;
  /** RMS-normalise q and k per head. Default true. */
  normalize?: boolean;
}

const splitQkvOp: Apply<SplitQkv> = defineOp<SplitQkv>('splitQkv', {
  forward: ([qkv, qWeight, kWeight], { heads, normalize, eps }) =>
    native.splitQkv(qkv!, qWeight ?? null, kWeight ?? null, heads, normalize, eps),
  vjp: ([gq, gk, gv], { inputs: [qkv, qWeight, kWeight], needs, attributes }) =>
    splitQkvJvpVjpOp([qkv!, qWeight!, kWeight!, null, null, null, gq!, gk!, gv!, null, null, null], {
      ...attributes,
      needs: [needs[0]!, needs[1]!, needs[2]!, false, false, false],
    }).slice(0, 3),
  jvp: ([qkv, qWeight, kWeight], [tqkv, tqWeight, tkWeight], attributes) => {
    const [q, k, v, tq, tk, tv] = splitQkvJvpOp([qkv!, qWeight!, kWeight!, tqkv!, tqWeight!, tkWeight!], attributes);
    return [
      [q!, k!, v!],
      [tq!, tk!, tv!],
    ];
  },
});

/**
 * Splits a fused projection into heads, ready for `attention` in layout 'BSHD', and RMS-normalises q and k per head on
 * the way. qkv [B, S, 3 H d], weights [d] or null -> q, k, v, each [B, S, H, d]
 */
export function splitQkv(
  qkv: Tensor,
  qWeight: Tensor | null,
  kWeight: Tensor | null,
  options: SplitQkvOptions,
): [q: Tensor, k: Tensor, v: Tensor] {
  const { heads, normalize = true, eps = defaultEps } = options;
  return splitQkvOp([qkv, qWeight, kWeight], { heads, normalize, eps }) as [Tensor, Tensor, Tensor];
}

const splitQkvJvpOp: Apply<SplitQkv> = defineOp<SplitQkv>('splitQkvJvp', {
  forward: ([qkv, qWeight, kWeight, tqkv, tqWeight, tkWeight], { heads, normalize, eps }) =>
    native.splitQkvJvp(
      qkv!,
      qWeight ?? null,
      kWeight ?? null,
      tqkv ?? null,
      tqWeight ?? null,
      tkWeight ?? null,
      heads,
      normalize,
      eps,
    ),
  vjp: (cotangents, { inputs, needs, attributes }) =>
    splitQkvJvpVjpOp([...inputs, ...cotangents], { ...attributes, needs }),
  composition: ([qkv, qWeight, kWeight, tqkv, tqWeight, tkWeight], { heads, normalize, eps }) => {
    const part = (t: MaybeTensor | undefined, i: number) => (t ? headsOf(t, i, heads) : null);
    const norm = (i: number, weight: MaybeTensor, tweight: MaybeTensor): [Tensor, MaybeTensor] => {
      const [x, tx] = [part(qkv, i)!, part(tqkv, i)];
      if (!normalize) return [x, tx];
      const [xHat, u] = unit(x, tx, eps);
      const scaled = (t: MaybeTensor) => (weight ? times(t, weight) : t);
      return [scaled(xHat)!, plus(scaled(u), times(xHat, tweight))];
    };
    const [q, tq] = norm(0, qWeight!, tqWeight!);
    const [k, tk] = norm(1, kWeight!, tkWeight!);
    return [q, k, part(qkv, 2), tq, tk, part(tqkv, 2)];
  },
});

// [B, S, 3 H d] -> the i-th of its three parts, [B, S, H, d]
function headsOf(qkv: Tensor, i: number, heads: number): Tensor {
  const [batch, tokens, width] = qkv.shape as [number, number, number];
  const part = width / 3;
  return reshape(slice(qkv, [0, 0, i * part], [batch, tokens, (i + 1) * part]), [batch, tokens, heads, part / heads]);
}

const splitQkvJvpVjpOp: Apply<SplitQkv & { needs: readonly boolean[] }> = defineOp<
  SplitQkv & { needs: readonly boolean[] }
>('splitQkvJvpVjp', {
  forward: ([qkv, qWeight, kWeight, tqkv, tqWeight, tkWeight, ...cotangents], { heads, normalize, eps, needs }) =>
    native.splitQkvJvpVjp(
      qkv!,
      qWeight ?? null,
      kWeight ?? null,
      tqkv ?? null,
      tqWeight ?? null,
      tkWeight ?? null,
      cotangents.map((g) => g ?? null),
      heads,
      normalize,
      eps,
      needs.map(Number),
    ),
  composition: ([qkv, qWeight, kWeight, tqkv, tqWeight, tkWeight, ...cotangents], { heads, normalize, eps, needs }) => {
    const part = (t: MaybeTensor | undefined, i: number) => (t ? headsOf(t, i, heads) : null);
    const parts = [0, 1, 2].map((i) => {
      const [g, h] = [cotangents[i] ?? null, cotangents[i + 3] ?? null];
      if (!normalize || i === 2) return { gx: g, gtx: h, ga: null, gta: null };
      const [a, ta] = i === 0 ? [qWeight, tqWeight] : [kWeight, tkWeight];
      return unitVjp(part(qkv, i)!, part(tqkv, i), a ?? null, ta ?? null, g, h, eps);
    });
    const weightRows = (t: MaybeTensor) => t && sum(t, [0, 1, 2]);
    const [q, k] = parts as [(typeof parts)[0], (typeof parts)[0]];
    const results = [
      () => besideEachOther(parts.map(({ gx }) => gx)),
      () => weightRows(q.ga),
      () => weightRows(k.ga),
      () => besideEachOther(parts.map(({ gtx }) => gtx)),
      () => weightRows(q.gta),
      () => weightRows(k.gta),
    ];
    return results.map((result, i) => (needs[i] ? result() : null));
  },
});

// The transpose of headsOf for all three parts, an absent one being zero: three [B, S, H, d] -> [B, S, 3 H d]
function besideEachOther(parts: readonly MaybeTensor[]): MaybeTensor {
  const some = parts.find((t) => t !== null);
  if (!some) return null;
  const [batch, tokens, heads, dim] = some.shape as [number, number, number, number];
  const flat = (t: MaybeTensor) => reshape(t ?? zerosLike(some), [batch, tokens, heads * dim]);
  return concat(parts.map(flat), 2);
}

const softmaxOp: Apply = defineOp('softmax', {
  forward: ([x]) => native.softmax(x!),
  vjp: ([g], { outputs: [y] }) => [mul(y!, sub(g!, sum(mul(g!, y!), -1, { keepDims: true })))],
  jvp: ([x], [tx]) => {
    const y = softmax(x!);
    return [y, mul(y, sub(tx!, sum(mul(tx!, y), -1, { keepDims: true })))];
  },
  saves: 'outputs',
});

/** Softmax over the last axis. x [..., D] -> [..., D] */
export function softmax(x: Tensor): Tensor {
  return softmaxOp([x], undefined)[0]!;
}
