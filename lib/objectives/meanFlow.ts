// MeanFlow (arXiv 2505.13447). Symbols: x data, n noise, x_t = (1 − t) x + t n, v = n − x; F(x_t, t, s) the mean velocity on the
// way from t down to s ≤ t, so that x_s = x_t + (s − t) F. The paper's u is F, its r is s.
import { jvp } from '../autograd/forward';
import { stopGradient } from '../autograd/reverse';
import { noGrad } from '../autograd/tape';
import { onesLike, tensor } from '../create';
import { ArgumentError } from '../errors';
import { equal, greaterEqual, lessEqual, where } from '../ops/compare';
import { add, mul, pow, sub } from '../ops/elementwise';
import { mean } from '../ops/reduce';
import { defaultGenerator, type Generator, randn } from '../random';
import type { Tensor } from '../tensor';
import { checkFinite } from './checkFinite';
import { checkProbability, checkRows, checkShape, dropClasses, interpolate, perSample, sampleMean } from './rows';
import { type LogitNormal, logitNormal } from './times';
import type { FlowMapNetwork } from './tvm';

export interface MeanFlowBatch {
  /** Data, [B, ...], unit standard deviation. */
  x: Tensor;
  /** Like x. Default: drawn. */
  noise?: Tensor;
  /** int32 [B], −1 for no class. Default: no classes. */
  labels?: Tensor | null;
  /** [B], 0 ≤ s ≤ t ≤ 1. Default: both drawn, and then classes are dropped by `labelDropout`. */
  t?: Tensor;
  /** [B], given where t is. */
  s?: Tensor;
}

/** How what is missing is drawn. */
export interface MeanFlowDraws {
  /** Law of two draws, of which t is the larger and s the smaller. Default mean −0.4, std 1. */
  times?: LogitNormal;
  /** Share of a drawn batch, its first rows, with s = t: flow matching. Default 0.75. */
  equalShare?: number;
  /** Probability of dropping the class of a batch whose times are drawn. Default 0.1. */
  labelDropout?: number;
  generator?: Generator;
}

export interface MeanFlowOptions extends MeanFlowDraws {
  /** p of the weight 1 / (error + offset)^p, at least 0; 0 is the plain squared error. Default 1. */
  power?: number;
  /** Default 1e-3. */
  offset?: number;
  /** Guidance trained in, above 0; other than 1 it costs an evaluation without class. Default 1. */
  cfg?: number;
}

export interface MeanFlowResult {
  /** Mean over the batch of the weighted errors, []. */
  loss: Tensor;
  /** The errors without weight, [B]. */
  meanFlow: Tensor;
}

const op = 'meanFlowLoss';

function drawTimes(size: number, law: LogitNormal, equalShare: number, generator: Generator) {
  const [first, second] = [logitNormal(size, law, generator), logitNormal(size, law, generator)];
  const equals = Math.round(size * equalShare);
  const t = first.map((value, i) => Math.max(value, second[i]!));
  return { t, s: t.map((value, i) => (i < equals ? value : Math.min(first[i]!, second[i]!))) };
}

/**
 * A batch with nothing missing, as `meanFlowLoss` would draw it: for a step whose tensors must be there beforehand, such as one
 * recorded by `captureGraph`.
 *
 * @throws ShapeError where shapes do not fit; ArgumentError for options out of range, or one of t and s without the other
 */
export function drawMeanFlowBatch(batch: MeanFlowBatch, options: MeanFlowDraws = {}): Required<MeanFlowBatch> {
  const { times = { mean: -0.4, std: 1 }, equalShare = 0.75 } = options;
  const { labelDropout = 0.1, generator = defaultGenerator } = options;
  checkProbability(op, 'equalShare', equalShare);
  checkProbability(op, 'labelDropout', labelDropout);
  const { x, labels = null } = batch;
  checkRows(op, x);
  const size = x.shape[0]!;
  const { dtype, device } = x;
  checkShape(op, 'noise', batch.noise, x.shape);
  for (const name of ['labels', 't', 's'] as const) checkShape(op, name, batch[name], [size]);
  if (!batch.t !== !batch.s) throw new ArgumentError(op, 'batch must give t and s together, or neither');
  const noise = batch.noise ?? randn(x.shape, { dtype, device, generator });
  if (batch.t && batch.s) return { x, noise, labels, t: batch.t, s: batch.s };
  const drawn = drawTimes(size, times, equalShare, generator);
  const upload = (values: readonly number[]) => tensor(Float64Array.from(values), { dtype, device });
  return {
    x,
    noise,
    t: upload(drawn.t),
    s: upload(drawn.s),
    labels: labels && dropClasses(op, labels, labelDropout, generator),
  };
}

/** t as it is where 0 ≤ s ≤ t ≤ 1; elsewhere a failure that names the row. */
function checkTimes(t: Tensor, s: Tensor): Tensor {
  const ordered = where(lessEqual(s, t), where(greaterEqual(s, 0), t, Number.NaN), Number.NaN);
  return checkFinite(where(lessEqual(t, 1), ordered, Number.NaN), `${op}'s t, with 0 <= s <= t <= 1,`);
}

function checkOptions({ power, offset, cfg }: Record<'power' | 'offset' | 'cfg', number>): void {
  if (!Number.isFinite(power) || power < 0) {
    throw new ArgumentError(op, `power must be a finite number of at least 0, got ${power}`);
  }
  for (const [name, value] of Object.entries({ offset, cfg })) {
    if (!Number.isFinite(value) || value <= 0) {
      throw new ArgumentError(op, `${name} must be a finite number above 0, got ${value}`);
    }
  }
}

/**
 * The loss of MeanFlow: error = mean (F − sg(v' − (t − s) dF/dt))², weighted by sg(1 / (error + offset)^power), where
 * dF/dt = ∂F/∂x v' + ∂F/∂t is the derivative along the path at fixed s. With guidance v' = cfg v + (1 − cfg) F(x_t, t, t)
 * without class, which has no gradient; rows without class keep v' = v. Gradients flow through F alone. At s = t with power 0
 * it is {@link flowMatchingLoss}. What the batch leaves out is drawn; with everything given the loss is deterministic.
 * x, noise [B, ...], labels, t, s [B] -> loss [], meanFlow [B]
 *
 * @returns tensors that throw `NumericalError`, naming the batch row, when read if an error is not finite or if given times are
 *   not 0 ≤ s ≤ t ≤ 1
 * @throws ShapeError where shapes do not fit; ArgumentError for options out of range, or one of t and s without the other
 */
export function meanFlowLoss(net: FlowMapNetwork, batch: MeanFlowBatch, options: MeanFlowOptions = {}): MeanFlowResult {
  const { power = 1, offset = 1e-3, cfg = 1, ...draws } = options;
  checkOptions({ power, offset, cfg });
  const { x, noise, labels, s, t: given } = drawMeanFlowBatch(batch, draws);
  const t = checkTimes(given, s);

  const xt = interpolate(x, noise, t);
  let v = stopGradient(sub(noise, x));
  if (labels && cfg !== 1) {
    const free = noGrad(() => net.forward(xt, t, t, { labels: null }));
    const guided = add(mul(v, cfg), mul(stopGradient(free), 1 - cfg));
    v = where(perSample(equal(labels, -1), x), v, guided);
  }
  const along = (at: Tensor, time: Tensor) => net.forward(at, time, s, { labels });
  const [F, dF] = jvp(along, [xt, t], [v, onesLike(t)]);
  const target = stopGradient(sub(v, mul(perSample(sub(t, s), x), dF)));
  const meanFlow = checkFinite(sampleMean(sub(F, target).square()), 'mean flow loss');
  const weighted = power === 0 ? meanFlow : mul(meanFlow, pow(add(stopGradient(meanFlow), offset), -power));
  return { loss: mean(weighted), meanFlow };
}
