// The loss of Inductive Moment Matching (arXiv 2503.07565). Groups of M particles share times s ≤ r ≤ t; jumps from t to s
// are matched in distribution to jumps from r to s, r a little below t, by the maximum mean discrepancy. The authors
// published the method without its training code: this follows the paper.
import { stopGradient } from '../autograd/reverse';
import { noGrad } from '../autograd/tape';
import { tensor } from '../create';
import { ArgumentError, DTypeError, ShapeError } from '../errors';
import { where } from '../ops/compare';
import { add, cast, mul, sub } from '../ops/elementwise';
import { type MmdKernel, mmd } from '../ops/mmd';
import { mean, sum } from '../ops/reduce';
import { reshape } from '../ops/shape';
import { defaultGenerator, type Generator, randn } from '../random';
import { isTensor, type Tensor } from '../tensor';
import { checkFinite } from './checkFinite';
import type { ImmMapping, ImmTimes } from './immMapping';
import { checkImmOptions, evaluate, type ImmEvaluateOptions, type ImmNetwork } from './immNetwork';

export interface ImmBatch {
  /** Data of standard deviation sigmaData, [B, ...]; M rows after another are a group, which should share its class. */
  x: Tensor;
  /** Like x, of standard deviation sigmaData. Default: drawn. */
  noise?: Tensor;
  /** int32 [B], −1 for no class. Default: no classes. */
  labels?: Tensor | null;
  /** [G] each, G = B / M, s ≤ t, together. Default: drawn. Tensors are read on the host, which waits for them. */
  t?: ImmTimes;
  s?: ImmTimes;
  /** [G], s ≤ r ≤ t. Default: the mapping's r(s, t). */
  r?: ImmTimes;
}

export interface ImmOptions extends Omit<ImmEvaluateOptions, 'labels'> {
  mapping: ImmMapping;
  /** M, particles of a group, 1 to 64. Default 4. */
  particles?: number;
  /**
   * A kernel of {@link mmd}, or 'l2': −w d² / D, whose discrepancy is (2 w / D) ‖mean − mean‖² and has no bandwidths, eps or
   * unbiased form. Default 'laplace'.
   */
  kernel?: MmdKernel | 'l2';
  /** As in {@link mmd}. */
  bandwidths?: readonly number[];
  eps?: number;
  unbiased?: boolean;
  /** Weight groups by the mapping's w(s, t). Default true; else 1. */
  weighting?: boolean;
  /** Give the kernel the mapping's weight 1 / |c_out(s, t)|. Default true; else 1. */
  kernelWeighting?: boolean;
  /** Values that drawn times take instead of t uniform on (eps, T), s uniform on (eps, t), r by the mapping. */
  times?: { t?: number; s?: number; r?: number };
  /** Probability of dropping the class of a group whose times are drawn. Default 0.1. */
  labelDropout?: number;
  generator?: Generator;
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
  const { kernel, bandwidths, eps, unbiased, labelDropout = 0.1, particles = 4 } = options;
  if (!Number.isInteger(particles) || particles < 1 || particles > 64) {
    throw new ArgumentError(op, `particles must be an integer from 1 to 64, got ${particles}`);
  }
  if (kernel === 'l2' && (bandwidths !== undefined || eps !== undefined || unbiased)) {
    throw new ArgumentError(op, "bandwidths, eps and unbiased must be absent with the kernel 'l2'");
  }
  if (!(labelDropout >= 0 && labelDropout <= 1)) {
    throw new ArgumentError(op, `labelDropout must be in [0, 1], got ${labelDropout}`);
  }
}

function onHost(name: string, times: ImmTimes, groups: number): number[] {
  const shape = isTensor(times) ? times.shape : [times.length];
  if (shape.length !== 1 || shape[0] !== groups) {
    throw new ShapeError(op, `${name} must have shape [${groups}], one for each group, got [${shape.join(', ')}]`);
  }
  if (isTensor(times) && times.dtype !== 'float32' && times.dtype !== 'float64') {
    throw new DTypeError(op, `${name} must be float32 or float64, got ${times.dtype}`);
  }
  return Array.from(isTensor(times) ? (times.dataSync() as ArrayLike<number>) : times);
}

/** Times of each group, checked and in order. */
function timesOf(batch: ImmBatch, options: ImmOptions, groups: number, generator: Generator) {
  const { mapping, times: fixed = {} } = options;
  const { eps, T } = mapping.options;
  let t: number[];
  let s: number[];
  const drawn = !batch.t && !batch.s;
  if (batch.t && batch.s) {
    t = onHost('t', batch.t, groups);
    s = onHost('s', batch.s, groups);
  } else if (drawn) {
    const between = (low: number, high: number, u: number) => low + (high - low) * u;
    const [first, second] = [generator.uniform(groups), generator.uniform(groups)];
    t = first.map((u) => fixed.t ?? between(eps, T, u));
    s = second.map((u, g) => fixed.s ?? between(eps, t[g]!, u));
  } else {
    throw new ArgumentError(op, 'batch must give t and s together, or neither');
  }
  const given = batch.r ? onHost('r', batch.r, groups) : null;
  const r = t.map((time, g) => {
    const [from, to] = [s[g]!, given?.[g] ?? (drawn ? fixed.r : undefined) ?? null];
    if (!(from >= 0 && from <= time && time <= 1)) {
      throw new ArgumentError(op, `times must be 0 ≤ s ≤ t ≤ 1, got s ${from}, t ${time} for group ${g}`);
    }
    if (to === null) return mapping.r(from, time);
    if (!(to >= from && to <= time)) {
      throw new ArgumentError(op, `r must be in [s, t] = [${from}, ${time}], got ${to} for group ${g}`);
    }
    return to;
  });
  return { t, s, r, drawn };
}

/**
 * The loss of Inductive Moment Matching: mean over groups of w(s, t) MMD²(y_t, y_r) with y_t = f_{t→s}(x_t) and, without
 * gradient and from the same weights, data and noise, y_r = f_{r→s}(x_r). Gradients flow through y_t. What the batch leaves out
 * is drawn; with times and noise given the loss is deterministic.
 *
 * x [B, ...], t, s [G] -> loss [], mmd [G], B = G · particles. Times, r and all coefficients are computed in float64 on the
 * host; y and the discrepancy are float32 (float64 for float64 data) whatever the network's parameters are stored in.
 *
 * @returns tensors that throw `NumericalError`, naming the group, when read if a term is not finite
 * @throws ArgumentError if particles do not divide the batch, times are out of range or order, or an option is unknown;
 * ShapeError, DTypeError if tensors do not fit
 */
export function immLoss(net: ImmNetwork, batch: ImmBatch, options: ImmOptions): ImmResult {
  checkImmOptions(op, net, options);
  checkOptions(options);
  const { mapping, particles = 4, kernel = 'laplace', weighting = true, kernelWeighting = true } = options;
  const { temb, timeScale, inputScaling, labelDropout = 0.1, generator = defaultGenerator } = options;
  const { shape } = batch.x;
  const size = shape[0] ?? 0;
  if (shape.length < 2) throw new ShapeError(op, `x must have shape [B, ...], got [${shape.join(', ')}]`);
  if (size === 0 || size % particles !== 0) {
    throw new ArgumentError(op, `particles must divide the batch of ${size}, got ${particles}`);
  }
  if (batch.noise && batch.noise.shape.join() !== shape.join()) {
    const got = batch.noise.shape.join(', ');
    throw new ShapeError(op, `noise must have the shape [${shape.join(', ')}] of x, got [${got}]`);
  }
  const groups = size / particles;
  const { device } = batch.x;
  const dtype = batch.x.dtype === 'float64' ? 'float64' : 'float32';
  const x = cast(batch.x, dtype);
  const noise = batch.noise
    ? cast(batch.noise, dtype)
    : mul(randn(shape, { dtype, device, generator }), mapping.options.sigmaData);
  const { t, s, r, drawn } = timesOf(batch, options, groups, generator);
  let labels = batch.labels ?? null;
  if (labels && drawn) {
    const dropped = generator.uniform(groups).map((u) => u < labelDropout);
    labels = where(tensor(spread(dropped, particles), { device }), -1, labels);
  }

  const upload = (values: readonly number[]) => tensor(Float64Array.from(values), { dtype, device });
  const jump = (from: readonly number[]): Tensor => {
    const [start, end] = [spread(from, particles), spread(s, particles)];
    const column = [size, ...new Array<number>(shape.length - 1).fill(1)];
    const share = (of: (time: number) => number) => reshape(upload(start.map(of)), column);
    const at = add(mul(x, share(mapping.alpha)), mul(noise, share(mapping.sigma)));
    const F = evaluate(net, at, start, end, { mapping, temb, timeScale, inputScaling, labels });
    return reshape(mapping.f(at, F, start, end), [groups, particles, -1]);
  };
  const y = jump(t);
  const target = stopGradient(noGrad(() => jump(r)));

  // Where s = t both jumps stay where they are, and the kernel's weight has no bound.
  const still = t.map((time, g) => time === s[g]);
  const weight = upload(t.map((time, g) => (kernelWeighting && !still[g] ? mapping.kernelWeight(s[g]!, time) : 1)));
  const lossWeight = t.map((time, g) => (still[g] ? 0 : weighting ? mapping.weight(s[g]!, time) : 1));
  const unbounded = lossWeight.findIndex((w) => !Number.isFinite(w));
  if (unbounded >= 0) {
    throw new ArgumentError(
      op,
      `t must be where the mapping's weight is finite, got ${t[unbounded]} for group ${unbounded}`,
    );
  }
  const { bandwidths, eps, unbiased } = options;
  const discrepancy =
    kernel === 'l2'
      ? meanDistance(y, target, weight)
      : mmd(y, target, { kernel, weight, ...defined({ bandwidths, eps, unbiased }) });
  const checked = checkFinite(discrepancy, 'moment matching loss');
  return { loss: mean(mul(checked, upload(lossWeight))), mmd: checked };
}

/** Each value `count` times. */
function spread<T>(values: readonly T[], count: number): T[] {
  return values.flatMap((value) => new Array<T>(count).fill(value));
}

function defined<T extends object>(options: T): Partial<T> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/** (2 w / D) ‖mean − mean‖²: what the sum over all pairs comes to for the kernel −w d² / D. */
function meanDistance(y: Tensor, target: Tensor, weight: Tensor): Tensor {
  const features = y.shape[2]!;
  return mul(mul(sum(mean(sub(y, target), 1).square(), 1), weight), 2 / features);
}
