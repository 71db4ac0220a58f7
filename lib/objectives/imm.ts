// The loss of Inductive Moment Matching (arXiv 2503.07565). Groups of M particles share times s ≤ r ≤ t; jumps from t to s
// are matched in distribution to jumps from r to s, r a little below t, by the maximum mean discrepancy. The authors
// published the method without its training code: this follows the paper.
import { stopGradient } from '../autograd/reverse';
import { noGrad } from '../autograd/tape';
import { onesLike } from '../create';
import { ArgumentError } from '../errors';
import { equal, greaterEqual, lessEqual, where } from '../ops/compare';
import { add, cast, mul, sub } from '../ops/elementwise';
import { type MmdKernel, mmd } from '../ops/mmd';
import { mean, sum } from '../ops/reduce';
import { broadcastTo, reshape } from '../ops/shape';
import type { Tensor } from '../tensor';
import { checkFinite } from './checkFinite';
import { drawImmBatch, type ImmBatch, type ImmDraws } from './immBatch';
import { tensorKernelWeight, tensorShares, tensorWeight } from './immCoefficients';
import type { ImmMapping } from './immMapping';
import { checkImmOptions, evaluate, type ImmEvaluateOptions, type ImmNetwork } from './immNetwork';
import { perSample } from './rows';

export interface ImmOptions extends Omit<ImmEvaluateOptions, 'labels'>, ImmDraws {
  mapping: ImmMapping;
  /**
   * A kernel of {@link mmd}, or 'l2': −w d² / D, whose discrepancy is (2 w / D) ‖mean − mean‖² and has no bandwidths, eps or
   * unbiased form. Default 'laplace'.
   */
  kernel?: MmdKernel | 'l2';
  /** As in {@link mmd}. */
  bandwidths?: readonly number[];
  eps?: number;
  unbiased?: boolean;
  /** Give the kernel the mapping's weight 1 / |c_out(s, t)|. Default true; else 1. */
  kernelWeighting?: boolean;
}

export interface ImmResult {
  /** Mean over groups of w(s, t) mmd, []. */
  loss: Tensor;
  /** Squared discrepancy of each group, without w(s, t). [G] */
  mmd: Tensor;
}

/**
 * Special cases, as options to spread into those of {@link immLoss}.
 *
 * - `ct`, consistency training (arXiv 2303.01469): one particle, the l2 kernel, all jumps to eps: the loss is a weighted
 *   ‖f_{t→ε}(x_t) − sg f_{r→ε}(x_r)‖².
 * - `gmmn`, the generative moment matching network (arXiv 1502.02761): t = 1, s = r = 0: the discrepancy between jumps from noise
 *   and the data itself. It wants groups of many particles.
 */
export const immCases = {
  ct: (mapping: ImmMapping) =>
    ({ particles: 1, kernel: 'l2', times: { s: mapping.options.eps } }) satisfies Partial<ImmOptions>,
  gmmn: () => ({ times: { t: 1, s: 0, r: 0 }, weighting: false, kernelWeighting: false }) satisfies Partial<ImmOptions>,
} as const;

const op = 'immLoss';
const wholeOptions = new Set([
  'mapping',
  'temb',
  'timeScale',
  'inputScaling',
  'particles',
  'kernel',
  'bandwidths',
  'eps',
  'unbiased',
  'weighting',
  'kernelWeighting',
  'times',
  'labelDropout',
  'generator',
]);

function checkOptions(options: ImmOptions): void {
  for (const key of Object.keys(options)) {
    if (!wholeOptions.has(key)) {
      throw new ArgumentError(op, `options must be among ${[...wholeOptions].join(', ')}, got '${key}'`);
    }
  }
  const { kernel, bandwidths, eps, unbiased } = options;
  if (kernel === 'l2' && (bandwidths !== undefined || eps !== undefined || unbiased)) {
    throw new ArgumentError(op, "bandwidths, eps and unbiased must be absent with the kernel 'l2'");
  }
}

/** t and r as they are where 0 ≤ s ≤ r ≤ t ≤ 1; elsewhere a failure that names the group. [G] each */
function inOrder(t: Tensor, s: Tensor, r: Tensor): [Tensor, Tensor] {
  const conditions = [greaterEqual(s, 0), lessEqual(s, r), lessEqual(r, t), lessEqual(t, 1)];
  const checked = (time: Tensor) => {
    const held = conditions.reduce((value, condition) => where(condition, value, Number.NaN), time);
    return checkFinite(held, 'a time of a group, with 0 <= s <= r <= t <= 1,');
  };
  return [checked(t), checked(r)];
}

/**
 * The loss of Inductive Moment Matching: mean over groups of w(s, t) MMD²(y_t, y_r) with y_t = f_{t→s}(x_t) and, without
 * gradient and from the same weights, data and noise, y_r = f_{r→s}(x_r). Gradients flow through y_t. What the batch leaves out
 * is drawn; with times and noise given the loss is deterministic.
 *
 * x [B, ...], t, s [G] -> loss [], mmd [G], B = G · particles. Times, r and all coefficients are computed in float64; y and
 * the discrepancy are float32 (float64 for float64 data) whatever the network's parameters are stored in.
 *
 * @returns tensors that throw `NumericalError`, naming the group, when read if a term is not finite, or if times that are
 * tensors are out of range or order
 * @throws ArgumentError if particles do not divide the batch, times that are numbers are out of range or order, or an option is unknown;
 * ShapeError, DTypeError if tensors do not fit
 */
export function immLoss(net: ImmNetwork, batch: ImmBatch, options: ImmOptions): ImmResult {
  checkImmOptions(op, net, options);
  checkOptions(options);
  const { mapping, particles = 4, kernel = 'laplace', weighting = true, kernelWeighting = true } = options;
  const { temb, timeScale, inputScaling, times, labelDropout, generator } = options;
  const drawn = drawImmBatch(batch, { mapping, particles, times, weighting, labelDropout, generator });
  const { shape } = drawn.x;
  const size = shape[0]!;
  const groups = size / particles;
  const dtype = drawn.x.dtype === 'float64' ? 'float64' : 'float32';
  const [x, noise] = [cast(drawn.x, dtype), cast(drawn.noise, dtype)];
  const { s, labels } = drawn;
  const [t, r] = inOrder(drawn.t, s, drawn.r);

  const eachRow = (time: Tensor) => reshape(broadcastTo(reshape(time, [groups, 1]), [groups, particles]), [size]);
  const end = eachRow(s);
  const jump = (from: Tensor): Tensor => {
    const start = eachRow(from);
    const { alpha, sigma } = tensorShares(mapping.options, start);
    const share = (of: Tensor) => perSample(of.to({ dtype }), x);
    const at = add(mul(x, share(alpha)), mul(noise, share(sigma)));
    const F = evaluate(net, at, start, end, { mapping, temb, timeScale, inputScaling, labels });
    return reshape(mapping.f(at, F, start, end), [groups, particles, -1]);
  };
  const y = jump(t);
  const target = stopGradient(noGrad(() => jump(r)));

  // Where s = t both jumps stay where they are, whatever the weights.
  const weight = kernelWeighting ? tensorKernelWeight(mapping.options, t, s) : onesLike(t);
  const groupWeight = weighting ? tensorWeight(mapping.options, t) : onesLike(t);
  const lossWeight = checkFinite(where(equal(t, s), 0, groupWeight), "the mapping's weight of a group");
  const { bandwidths, eps, unbiased } = options;
  const discrepancy =
    kernel === 'l2'
      ? meanDistance(y, target, weight.to({ dtype }))
      : mmd(y, target, { kernel, weight: weight.to({ dtype }), ...defined({ bandwidths, eps, unbiased }) });
  const checked = checkFinite(discrepancy, 'moment matching loss');
  return { loss: mean(mul(checked, lossWeight.to({ dtype }))), mmd: checked };
}

function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** (2 w / D) ‖mean − mean‖²: what the sum over all pairs comes to for the kernel −w d² / D. */
function meanDistance(y: Tensor, target: Tensor, weight: Tensor): Tensor {
  const features = y.shape[2]!;
  return mul(mul(sum(mean(sub(y, target), 1).square(), 1), weight), 2 / features);
}
