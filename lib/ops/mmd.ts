// The squared maximum mean discrepancy between groups of particles. Value and tangent are one pass over the particles,
// value and gradients a pass and a sweep; further derivatives go through the formula in plain ops.
import { type Apply, defineOp } from '../autograd/op';
import { stopGradient } from '../autograd/reverse';
import { eye } from '../create';
import { ArgumentError } from '../errors';
import { native } from '../native';
import type { Tensor } from '../tensor';
import { lessEqual, where } from './compare';
import { add, cast, div, exp, expm1, mul, neg, sqrt, square, sub } from './elementwise';
import { sum } from './reduce';
import { expandDims, reshape } from './shape';

type MaybeTensor = Tensor | null;

/**
 * What {@link mmd} measures similarity with, as a function of d = max(‖a − b‖₂, eps), the features D, the group's weight w
 * and a bandwidth h (several: the mean over them):
 *
 * - `'laplace'`: exp(−w d / (h D)), the kernel of Inductive Moment Matching (arXiv 2503.07565)
 * - `'rbf'`: exp(−w d² / (2 h² D))
 * - `'imq'`: (1 + w d² / (h² D))^-½, the inverse multiquadric
 * - `'energy'`: −w d / D, of the energy distance; it has no bandwidth
 */
export type MmdKernel = 'laplace' | 'rbf' | 'imq' | 'energy';

export interface MmdOptions {
  kernel: MmdKernel;
  /** w of each group, [G], finite and at least 0. Default ones. */
  weight?: Tensor | null;
  /** Multiplies each group's result, [G], finite. Default ones. */
  lossWeight?: Tensor | null;
  /** h. Default [1]. */
  bandwidths?: readonly number[];
  /** The least distance. Pairs no further apart have no gradient. Default 1e-8. */
  eps?: number;
  /** The U-statistic: no particle is compared with itself, and sums of pairs are divided by M(M−1), N(N−1), MN. Default false. */
  unbiased?: boolean;
}

interface Attributes {
  kernel: MmdKernel;
  bandwidths: readonly number[];
  eps: number;
  unbiased: boolean;
}

// Inputs of every op below: x, y, weight, lossWeight, then what is particular to it. The two weights are constants.
const mmdOp: Apply<Attributes> = defineOp<Attributes>('mmd', {
  forward: ([x, y, weight, lossWeight], { kernel, bandwidths, eps, unbiased }) =>
    native.mmd(x!, y!, weight ?? null, lossWeight ?? null, kernel, bandwidths, eps, unbiased),
  vjp: ([g], { inputs, needs, attributes }) => [
    ...mmdVjpOp([...inputs, g!], { ...attributes, needs: [needs[0]!, needs[1]!] }).slice(1),
    null,
    null,
  ],
  jvp: (inputs, [tx, ty], attributes) => {
    const [value, tangent] = mmdJvpOp([...inputs, tx!, ty!], attributes);
    return [value!, tangent!];
  },
});

/**
 * The squared maximum mean discrepancy (Gretton et al. 2012) of each group of particles, times lossWeight:
 * (1/M²) Σ k(xᵢ, xⱼ) + (1/N²) Σ k(yᵢ, yⱼ) − (2/MN) Σ k(xᵢ, yⱼ), a sum over all pairs.
 * x [G, M, D], y [G, N, D] -> [G]; M and N from 1 to 64 (2, where unbiased)
 *
 * Distances are taken by direct differences and sums in double precision, and kernels less one, as the ones cancel: values are
 * good where x and y nearly agree. The result, weight and lossWeight are float64 for float64 particles, else float32. weight
 * and lossWeight are constants to every gradient and derivative. A group with a particle that is not finite gives NaN.
 *
 * @throws ShapeError, DTypeError if the tensors do not fit; ArgumentError for an unknown kernel, an eps or a bandwidth that is
 *   not positive, bandwidths for 'energy' and, when the result is read, for a weight that is negative or not finite
 */
export function mmd(x: Tensor, y: Tensor, options: MmdOptions): Tensor {
  const attributes = attributesOf('mmd', options);
  return mmdOp([x, y, ...weightsOf(options)], attributes)[0]!;
}

const known = ['kernel', 'weight', 'lossWeight', 'bandwidths', 'eps', 'unbiased'];

function attributesOf(op: string, options: MmdOptions): Attributes {
  if (options === null || typeof options !== 'object') {
    throw new ArgumentError(op, `options must be an object with a kernel, got ${String(options)}`);
  }
  for (const key of Object.keys(options)) {
    if (!known.includes(key)) throw new ArgumentError(op, `options must be ${known.join(', ')}, got '${key}'`);
  }
  const { kernel, bandwidths = [], eps = 1e-8, unbiased = false } = options;
  return { kernel, bandwidths, eps, unbiased };
}

function weightsOf(options: MmdOptions): [MaybeTensor, MaybeTensor] {
  const { weight, lossWeight } = options;
  return [weight ? stopGradient(weight) : null, lossWeight ? stopGradient(lossWeight) : null];
}

const mmdJvpOp: Apply<Attributes> = defineOp<Attributes>('mmdJvp', {
  forward: ([x, y, weight, lossWeight, tx, ty], { kernel, bandwidths, eps, unbiased }) =>
    native.mmdJvp(
      x!,
      y!,
      weight ?? null,
      lossWeight ?? null,
      tx ?? null,
      ty ?? null,
      kernel,
      bandwidths,
      eps,
      unbiased,
    ),
  composition: jvpComposition,
});

interface Backward extends Attributes {
  needs: readonly [x: boolean, y: boolean];
}

const mmdVjpOp: Apply<Backward> = defineOp<Backward>('mmdVjp', {
  forward: ([x, y, weight, lossWeight, g], { kernel, bandwidths, eps, unbiased, needs }) =>
    native.mmdVjp(
      x!,
      y!,
      weight ?? null,
      lossWeight ?? null,
      g ?? null,
      kernel,
      bandwidths,
      eps,
      unbiased,
      needs[0],
      needs[1],
    ),
  composition: vjpComposition,
});

/**
 * {@link mmd} and its gradients in one launch, the particles read from memory once. g [G], the cotangent of the value; null:
 * ones. -> value [G], gx like x, gy like y; null where not needed
 */
export function mmdVjp(
  x: Tensor,
  y: Tensor,
  g: MaybeTensor,
  options: MmdOptions,
  needs: readonly [x: boolean, y: boolean] = [true, true],
): [value: Tensor, gx: MaybeTensor, gy: MaybeTensor] {
  const attributes = attributesOf('mmdVjp', options);
  const [value, gx, gy] = mmdVjpOp([x, y, ...weightsOf(options), g], { ...attributes, needs }) as MaybeTensor[];
  return [value!, gx!, gy!];
}

// The definition in plain ops, with all differences: what further derivatives go through, and the tests' oracle.

// Pairs of one set with another. difference [G, M, N, D]; value, slope [G, M, N]: the kernel (less one, but for 'energy') and
// its derivative by the distance over the distance; mask: whether a pair is a particle with itself, to be left out.
function pairs(a: Tensor, b: Tensor, weight: MaybeTensor, alone: boolean, { kernel, bandwidths, eps }: Attributes) {
  const dim = a.shape[2]!;
  const difference = sub(expandDims(a, 2), expandDims(b, 1));
  const squares = sum(square(difference), 3);
  const near = lessEqual(squares, eps * eps); // false for NaN
  const root = where(near, eps, sqrt(where(near, 1, squares)));
  const w = weight ? expandDims(expandDims(weight, 1), 2) : null;
  const weighted = (t: Tensor, factor: number) => (w ? mul(mul(t, factor), w) : mul(t, factor));
  const one = (h: number): [value: Tensor, slope: Tensor] => {
    if (kernel === 'energy') {
      return [weighted(root, -1 / dim), div(weighted(root, -1 / dim), square(root))];
    }
    if (kernel === 'laplace') {
      const t = weighted(root, -1 / (h * dim));
      return [expm1(t), div(mul(t, exp(t)), square(root))];
    }
    const u = weighted(square(root), 1 / (h * h * dim));
    if (kernel === 'rbf') return [expm1(mul(u, -0.5)), div(mul(neg(u), exp(mul(u, -0.5))), square(root))];
    const q = add(u, 1);
    const r = sqrt(q);
    return [neg(div(u, mul(r, add(r, 1)))), div(neg(u), mul(mul(q, r), square(root)))];
  };
  const hs = bandwidths.length > 0 ? bandwidths : [1];
  const all = hs.map(one);
  const meanOf = (k: 0 | 1) => div(all.map((each) => each[k]).reduce(add), hs.length);
  const same = alone ? eye(a.shape[1]!, a.shape[1]!, { dtype: 'bool', device: a.device }) : null;
  return {
    difference,
    value: same ? where(same, 0, meanOf(0)) : meanOf(0),
    slope: where(near, 0, meanOf(1)),
  };
}

function composed([x0, y0, weight, lossWeight]: readonly MaybeTensor[], attributes: Attributes) {
  const wide = (t: MaybeTensor | undefined) => (t && t.dtype !== 'float64' ? cast(t, 'float32') : (t ?? null));
  const [x, y] = [wide(x0)!, wide(y0)!];
  const { unbiased } = attributes;
  const [m, n] = [x.shape[1]!, y.shape[1]!];
  const parts = [
    { a: 0, b: 0, factor: 1 / (unbiased ? m * (m - 1) : m * m), ...pairs(x, x, weight!, unbiased, attributes) },
    { a: 1, b: 1, factor: 1 / (unbiased ? n * (n - 1) : n * n), ...pairs(y, y, weight!, unbiased, attributes) },
    { a: 0, b: 1, factor: -2 / (m * n), ...pairs(x, y, weight!, false, attributes) },
  ];
  const loss = (t: Tensor) => (lossWeight ? mul(t, lossWeight) : t);
  const value = loss(parts.map(({ value, factor }) => mul(sum(value, [1, 2]), factor)).reduce(add));
  return { wide, parts, loss, value };
}

function jvpComposition(inputs: readonly MaybeTensor[], attributes: Attributes): MaybeTensor[] {
  const { wide, parts, loss, value } = composed(inputs, attributes);
  const tangents = [wide(inputs[4]), wide(inputs[5])];
  let tangent: MaybeTensor = null;
  for (const { a, b, factor, difference, slope } of parts) {
    const [ta, tb] = [tangents[a], tangents[b]];
    if (!ta && !tb) continue;
    const first = ta ? expandDims(ta, 2) : null;
    const second = tb ? expandDims(tb, 1) : null;
    const moved = first && second ? sub(first, second) : (first ?? neg(second!));
    const part = mul(sum(mul(slope, sum(mul(difference, moved), 3)), [1, 2]), factor);
    tangent = tangent ? add(tangent, part) : part;
  }
  return [value, tangent ? loss(tangent) : mul(value, 0)];
}

function vjpComposition(inputs: readonly MaybeTensor[], attributes: Backward): MaybeTensor[] {
  const { parts, value } = composed(inputs, attributes);
  const perGroup = [inputs[3], inputs[4]].filter((t) => t).map((t) => reshape(t!, [t!.shape[0]!, 1, 1, 1]));
  const gradients: MaybeTensor[] = [null, null];
  const addTo = (i: number, t: Tensor) => {
    const before = gradients[i];
    if (attributes.needs[i]) gradients[i] = before ? add(before, t) : t;
  };
  for (const { a, b, factor, difference, slope } of parts) {
    const each = perGroup.reduce(mul, mul(mul(difference, expandDims(slope, 3)), factor));
    addTo(a, sum(each, 2));
    addTo(b, neg(sum(each, 1)));
  }
  const dtype = inputs[0]!.dtype;
  return [value, ...gradients.map((t) => t && (t.dtype === dtype ? t : cast(t, dtype)))];
}
