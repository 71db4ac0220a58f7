// Layer normalisation: the RMS normalisation of x less its mean. Value and tangent, and the backward of both, are one
// pass each.
import { type Apply, defineOp } from '../autograd/op';
import { native } from '../native';
import type { Tensor } from '../tensor';
import { add, sub } from './elementwise';
import { defaultEps, type Eps, type MaybeTensor, plus, type RmsNormOptions, times, unit, unitVjp } from './norm';
import { mean, sum } from './reduce';
import { reshape } from './shape';

export type LayerNormOptions = RmsNormOptions;

/** @internal x less its mean over the last axis; its own transpose. */
export function centered(x: Tensor): Tensor {
  return sub(x, mean(x, -1, { keepDims: true }));
}

const layerNormOp: Apply<Eps> = defineOp<Eps>('layerNorm', {
  forward: ([x, weight, bias], { eps }) => native.layerNorm(x!, weight ?? null, bias ?? null, eps),
  vjp: ([g], { inputs: [x, weight], needs, attributes: { eps } }) =>
    layerNormJvpVjpOp([x!, weight!, null, null, g!, null], {
      eps,
      needs: [needs[0]!, needs[1]!, needs[2]!, false, false, false],
    }).slice(0, 3),
  jvp: (primals, tangents, { eps }) => layerNormJvpOp([...primals, ...tangents], { eps }) as [Tensor, Tensor],
});

/**
 * Layer normalisation over the last axis: (x − mean x) (var x + eps)^-½ ∘ weight + bias (Ba et al., arXiv 1607.06450).
 * x [..., D], weight [D] or null, bias [D] or null -> [..., D]
 *
 * @throws ShapeError if weight or bias is not [D]; ArgumentError unless eps is positive and finite
 */
export function layerNorm(
  x: Tensor,
  weight: Tensor | null = null,
  bias: Tensor | null = null,
  options: LayerNormOptions = {},
): Tensor {
  return layerNormOp([x, weight, bias], { eps: options.eps ?? defaultEps })[0]!;
}

const layerNormJvpOp: Apply<Eps> = defineOp<Eps>('layerNormJvp', {
  forward: ([x, weight, bias, tx, tweight, tbias], { eps }) =>
    native.layerNormJvp(x!, weight ?? null, bias ?? null, tx ?? null, tweight ?? null, tbias ?? null, eps),
  vjp: ([g, h], { inputs: [x, weight, , tx, tweight], needs, attributes: { eps } }) =>
    layerNormJvpVjpOp([x!, weight!, tx!, tweight!, g!, h!], { eps, needs }),
  composition: ([x, weight, bias, tx, tweight, tbias], { eps }) => {
    const [xHat, u] = unit(centered(x!), tx ? centered(tx) : null, eps);
    const scaled = (t: MaybeTensor) => (weight ? times(t, weight) : t);
    const y = scaled(xHat)!;
    // A row of zeros beside the rows: tbias alone has no rows of its own.
    const ty = plus(scaled(u), times(xHat, tweight ?? null));
    return [bias ? add(y, bias) : y, tbias ? add(ty ?? xHat.mul(0), tbias) : ty];
  },
});

/** {@link layerNorm} and its tangent in one pass; null tangents are zeros. -> [y, ty], each [..., D] */
export function layerNormJvp(
  primals: readonly [x: Tensor, weight: MaybeTensor, bias: MaybeTensor],
  tangents: readonly [tx: MaybeTensor, tweight: MaybeTensor, tbias: MaybeTensor],
  options: LayerNormOptions = {},
): [Tensor, Tensor] {
  return layerNormJvpOp([...primals, ...tangents], { eps: options.eps ?? defaultEps }) as [Tensor, Tensor];
}

const layerNormJvpVjpOp: Apply<Eps & { needs: readonly boolean[] }> = defineOp<Eps & { needs: readonly boolean[] }>(
  'layerNormJvpVjp',
  {
    forward: ([x, weight, tx, tweight, g, h], { eps, needs }) =>
      native.layerNormJvpVjp(
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
        needs[4]!,
        needs[5]!,
      ),
    composition: ([x, weight, tx, tweight, g, h], { eps, needs }) => {
      const inner = unitVjp(
        centered(x!),
        tx ? centered(tx) : null,
        weight ?? null,
        tweight ?? null,
        g ?? null,
        h ?? null,
        eps,
      );
      const outer = (t: MaybeTensor) => t && centered(t);
      const rows = (t: MaybeTensor | undefined) => (t ? sum(reshape(t, [-1, x!.shape[x!.rank - 1]!]), 0) : null);
      const results = [
        () => outer(inner.gx),
        () => (weight ? rows(inner.ga) : null),
        () => rows(g),
        () => outer(inner.gtx),
        () => (weight ? rows(inner.gta) : null),
        () => rows(h),
      ];
      return results.map((result, i) => (needs[i] ? result() : null));
    },
  },
);

/**
 * Pulls cotangents of {@link layerNorm} (g) and of its tangent (h) back to [x, weight, bias, tx, tweight, tbias]; null if
 * not needed.
 */
export function layerNormJvpVjp(
  primals: readonly [x: Tensor, weight: MaybeTensor, tx: MaybeTensor, tweight: MaybeTensor],
  g: MaybeTensor,
  h: MaybeTensor,
  needs: readonly boolean[],
  eps = defaultEps,
): MaybeTensor[] {
  return layerNormJvpVjpOp([...primals, g, h], { eps, needs });
}
