// Terminal Velocity Matching (arXiv 2511.19797). Symbols: x data, n noise, x_t = (1 − t) x + t n, v = n − x; F the network,
// w = cfg, β = 1/w, o = w with scaled parameterisation and 1 without; f(x_t, t, s) = x_t + (s − t) o F.
import { jvp } from '../autograd/forward';
import { stopGradient } from '../autograd/reverse';
import { noGrad } from '../autograd/tape';
import { full, onesLike, tensor } from '../create';
import { ArgumentError } from '../errors';
import type { DiTCondition } from '../nn/dit';
import { functionalCall, type Module } from '../nn/module';
import { greater, where } from '../ops/compare';
import { abs, add, mul, sub } from '../ops/elementwise';
import { mean } from '../ops/reduce';
import { concat, slice } from '../ops/shape';
import { defaultGenerator, type Generator, randn } from '../random';
import type { Tensor } from '../tensor';
import { checkFinite } from './checkFinite';
import { dropClasses, interpolate, perSample, sampleMean } from './rows';
import { type LogitNormal, logitNormal, type TvmTimesOptions, tvmTimes } from './times';

/** A network F(x, t, s) on images or anything else with a leading batch axis. */
export interface FlowMapNetwork extends Module {
  forward(x: Tensor, t: Tensor, s: Tensor, condition?: DiTCondition): Tensor;
}

export interface TvmBatch {
  /** Data, [B, ...], unit standard deviation. */
  x: Tensor;
  /** Like x. Default: drawn. */
  noise?: Tensor;
  /** int32 [B], −1 for no class. Default: no classes. */
  labels?: Tensor | null;
  /** [B] each. Default: drawn by {@link tvmTimes}. */
  t?: Tensor;
  s?: Tensor;
  sPrime?: Tensor;
  /** 1 / cfg, [B]. Default: drawn by `guidance`, and then classes are dropped by `labelDropout`. */
  beta?: Tensor;
}

export interface TvmOptions {
  /** The network gives F / cfg: multiply it by cfg. Default false. */
  doScaleParam?: boolean;
  /** Stop the gradient of ∂F/∂s: cheaper, and early in training nearly as good. Default false. */
  detachJvp?: boolean;
  /** How beta is drawn: a fixed cfg, cfg uniform in a range, or (default) beta uniform on (0, 1). */
  guidance?: { cfg: number } | { range: readonly [number, number] } | 'beta';
  /** Probability of dropping a drawn batch's class, with beta 1. Default 0.1. */
  labelDropout?: number;
  /** Laws of the times that are drawn. */
  times?: Omit<TvmTimesOptions, 'generator'>;
  generator?: Generator;
}

export interface TvmResult {
  /** Mean over the batch of both terms, []. */
  loss: Tensor;
  /** [B] */
  terminal: Tensor;
  /** [B] */
  flowMatching: Tensor;
}

/** |s − t| below which the terminal term says nothing. */
const coincident = 1e-6;

function drawBeta(batch: number, guidance: NonNullable<TvmOptions['guidance']>, generator: Generator): number[] {
  if (guidance === 'beta') return generator.uniform(batch).map((u) => Math.max(u, 1e-3));
  const cfgs =
    'cfg' in guidance
      ? new Array<number>(batch).fill(guidance.cfg)
      : generator.uniform(batch).map((u) => guidance.range[0] + (guidance.range[1] - guidance.range[0]) * u);
  if (cfgs.some((cfg) => !Number.isFinite(cfg) || cfg <= 0)) {
    throw new ArgumentError('tvmLoss', `guidance must give positive finite cfg, got ${JSON.stringify(guidance)}`);
  }
  return cfgs.map((cfg) => 1 / cfg);
}

/**
 * The loss of Terminal Velocity Matching, per sample and on average:
 * terminal = mean (β (df − T1))² with df = o (F + (s − t) ∂F/∂s), T1 = o F_teacher(f, s, s); flow matching =
 * mean (β (F' − [w v + (1 − w) T2]))² with F' = o F(x_s', s', s'), T2 = F_teacher(x_s', s', s') without class.
 * Gradients flow through F, ∂F/∂s and F'. What the batch leaves out is drawn; with everything given the loss is
 * deterministic.
 *
 * @param teacher an average of the network's parameters by name, or another network of its kind
 * @returns tensors that throw `NumericalError`, naming the batch row, when read if a term is not finite
 */
export function tvmLoss(
  net: FlowMapNetwork,
  teacher: ReadonlyMap<string, Tensor> | FlowMapNetwork,
  batch: TvmBatch,
  options: TvmOptions = {},
): TvmResult {
  const { doScaleParam = false, detachJvp = false, guidance = 'beta', labelDropout = 0.1 } = options;
  const { generator = defaultGenerator, times: laws } = options;
  const { x } = batch;
  const size = x.shape[0]!;
  const { dtype, device } = x;
  if (!(labelDropout >= 0 && labelDropout <= 1)) {
    throw new ArgumentError('tvmLoss', `labelDropout must be in [0, 1], got ${labelDropout}`);
  }
  const upload = (values: readonly number[]) => tensor(Float64Array.from(values), { dtype, device });
  const noise = batch.noise ?? randn(x.shape, { dtype, device, generator });
  const missing = !batch.t || !batch.s || !batch.sPrime;
  const times = missing ? tvmTimes(size, { ...laws, generator }) : null;
  if (missing && (batch.t || batch.s)) {
    if (!batch.t || !batch.s) throw new ArgumentError('tvmLoss', 'batch must give t and s together, or neither');
  }
  const t = batch.t ?? upload(times!.t);
  const s = batch.s ?? upload(times!.s);
  const sPrime = batch.sPrime ?? upload(times!.sPrime);
  let labels = batch.labels ?? null;
  let beta: Tensor;
  let unguided = false; // w = 1 everywhere, known without asking the device
  if (batch.beta) {
    beta = batch.beta;
  } else if (!labels) {
    beta = full([size], 1, { dtype, device });
    unguided = true;
  } else {
    const drawn = drawBeta(size, guidance, generator);
    const dropped = generator.uniform(size).map((u) => u < labelDropout);
    const values = drawn.map((value, i) => (dropped[i] ? 1 : value));
    labels = where(tensor(dropped, { device }), -1, labels);
    beta = upload(values);
    unguided = values.every((value) => value === 1);
  }

  const w = perSample(beta.reciprocal(), x);
  const o = (F: Tensor) => (doScaleParam ? mul(F, w) : F);
  const step = perSample(sub(s, t), x);
  const xt = interpolate(x, noise, t);
  const xs = interpolate(x, noise, sPrime);
  const v = sub(noise, x);

  const [F, dF] = jvp((at: Tensor) => net.forward(xt, t, at, { labels, beta }), [s], [onesLike(s)]);
  const slope = detachJvp ? stopGradient(dF) : dF;
  const df = o(add(F, mul(step, slope)));
  const [T1, T2] = noGrad(() => {
    const f = add(xt, mul(step, o(stopGradient(F))));
    const run = (...[at, time, condition]: [Tensor, Tensor, DiTCondition]) => {
      const evaluate = (network: FlowMapNetwork) => network.forward(at, time, time, condition);
      return teacher instanceof Map
        ? functionalCall(net, teacher as ReadonlyMap<string, Tensor>, () => evaluate(net))
        : evaluate(teacher as FlowMapNetwork);
    };
    if (unguided) return [o(run(f, s, { labels, beta })), null];
    // Both of the teacher's evaluations in one batch.
    const none = full([size], -1, { dtype: 'int32', device });
    const one = full([size], 1, { dtype, device });
    const both = run(concat([f, xs]), concat([s, sPrime]), {
      labels: labels ? concat([labels, none]) : null,
      beta: concat([beta, one]),
    });
    return [o(slice(both, [0], [size])), slice(both, [size], [2 * size])];
  });
  const prime = o(net.forward(xs, sPrime, sPrime, { labels, beta }));
  const target = T2 ? add(mul(w, v), mul(sub(1, w), T2)) : v;

  const weight = perSample(beta, x);
  const term = (difference: Tensor) => sampleMean(mul(difference, weight).square());
  const apart = greater(abs(sub(s, t)), coincident);
  const terminal = checkFinite(where(apart, term(sub(df, stopGradient(T1!))), 0), 'terminal velocity loss');
  const flowMatching = checkFinite(term(sub(prime, stopGradient(target))), 'flow matching loss');
  return { loss: mean(add(terminal, flowMatching)), terminal, flowMatching };
}

export interface FlowMatchingBatch {
  /** Data, [B, ...], unit standard deviation. */
  x: Tensor;
  noise?: Tensor;
  labels?: Tensor | null;
  /** [B]. Default: drawn, and then classes are dropped by `labelDropout`. */
  t?: Tensor;
}

export interface FlowMatchingOptions {
  /** Law of t. Default mean 0, std 1. */
  times?: LogitNormal;
  /** Probability of dropping the class of a batch whose times are drawn. Default 0.1. */
  labelDropout?: number;
  generator?: Generator;
}

/**
 * Flow matching (arXiv 2210.02747): mean (F(x_t, t, t) − v)², per sample and on average. The network learns its
 * instantaneous velocity, which Terminal Velocity Matching starts from.
 */
export function flowMatchingLoss(
  net: FlowMapNetwork,
  batch: FlowMatchingBatch,
  options: FlowMatchingOptions = {},
): { loss: Tensor; flowMatching: Tensor } {
  const { times = { mean: 0, std: 1 }, labelDropout = 0.1, generator = defaultGenerator } = options;
  const { x } = batch;
  const { dtype, device } = x;
  const size = x.shape[0]!;
  const noise = batch.noise ?? randn(x.shape, { dtype, device, generator });
  let { labels = null } = batch;
  let { t } = batch;
  if (!t) {
    t = tensor(Float64Array.from(logitNormal(size, times, generator)), { dtype, device });
    if (labels) labels = dropClasses('flowMatchingLoss', labels, labelDropout, generator);
  }
  const F = net.forward(interpolate(x, noise, t), t, t, { labels });
  const flowMatching = checkFinite(sampleMean(sub(F, sub(noise, x)).square()), 'flow matching loss');
  return { loss: mean(flowMatching), flowMatching };
}
