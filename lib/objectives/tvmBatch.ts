// What a batch of Terminal Velocity Matching (arXiv 2511.19797) or of flow matching lacks, drawn: noise, times, guidance,
// dropped classes. Times and guidance come from the host, in double precision.
import { full, tensor } from '../create';
import { ArgumentError } from '../errors';
import { where } from '../ops/compare';
import { defaultGenerator, type Generator, randn } from '../random';
import type { Tensor } from '../tensor';
import { dropClasses } from './rows';
import { type LogitNormal, logitNormal, type TvmTimesOptions, tvmTimes } from './times';

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
  /** False where beta is 1 throughout, which saves an evaluation of the teacher. Default true where beta is given. */
  guided?: boolean;
}

/** How what is missing is drawn. */
export interface TvmDraws {
  /** How beta is drawn: a fixed cfg, cfg uniform in a range, or (default) beta uniform on (0, 1). */
  guidance?: { cfg: number } | { range: readonly [number, number] } | 'beta';
  /** Probability of dropping a drawn batch's class, with beta 1. Default 0.1. */
  labelDropout?: number;
  /** Laws of the times that are drawn. */
  times?: Omit<TvmTimesOptions, 'generator'>;
  generator?: Generator;
}

function drawBeta(batch: number, guidance: NonNullable<TvmDraws['guidance']>, generator: Generator): number[] {
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
 * A batch with nothing missing, as `tvmLoss` would draw it: for a step whose tensors must be there beforehand, such as one
 * recorded by `captureGraph`.
 *
 * @throws ArgumentError if only one of t and s is given, or the guidance is not of positive finite cfg
 */
export function drawTvmBatch(batch: TvmBatch, options: TvmDraws = {}): Required<TvmBatch> {
  const { guidance = 'beta', labelDropout = 0.1, generator = defaultGenerator, times: laws } = options;
  const { x } = batch;
  const size = x.shape[0]!;
  const { dtype, device } = x;
  if (!(labelDropout >= 0 && labelDropout <= 1)) {
    throw new ArgumentError('tvmLoss', `labelDropout must be in [0, 1], got ${labelDropout}`);
  }
  const upload = (values: readonly number[]) => tensor(Float64Array.from(values), { dtype, device });
  const noise = batch.noise ?? randn(x.shape, { dtype, device, generator });
  const missing = !batch.t || !batch.s || !batch.sPrime;
  const drawn = missing ? tvmTimes(size, { ...laws, generator }) : null;
  if (missing && (batch.t || batch.s)) {
    if (!batch.t || !batch.s) throw new ArgumentError('tvmLoss', 'batch must give t and s together, or neither');
  }
  const t = batch.t ?? upload(drawn!.t);
  const s = batch.s ?? upload(drawn!.s);
  const sPrime = batch.sPrime ?? upload(drawn!.sPrime);
  const labels = batch.labels ?? null;
  const common = { x, noise, t, s, sPrime };
  if (batch.beta) return { ...common, labels, beta: batch.beta, guided: batch.guided ?? true };
  if (!labels) return { ...common, labels, beta: full([size], 1, { dtype, device }), guided: false };
  const betas = drawBeta(size, guidance, generator);
  const dropped = generator.uniform(size).map((u) => u < labelDropout);
  return {
    ...common,
    labels: where(tensor(dropped, { device }), -1, labels),
    beta: upload(betas.map((value, i) => (dropped[i] ? 1 : value))),
    guided: betas.some((value) => value !== 1),
  };
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

/** A batch with nothing missing, as `flowMatchingLoss` would draw it. */
export function drawFlowMatchingBatch(
  batch: FlowMatchingBatch,
  options: FlowMatchingOptions = {},
): Required<FlowMatchingBatch> {
  const { times = { mean: 0, std: 1 }, labelDropout = 0.1, generator = defaultGenerator } = options;
  const { x, labels = null, t } = batch;
  const { dtype, device } = x;
  const noise = batch.noise ?? randn(x.shape, { dtype, device, generator });
  if (t) return { x, noise, labels, t };
  return {
    x,
    noise,
    t: tensor(Float64Array.from(logitNormal(x.shape[0]!, times, generator)), { dtype, device }),
    labels: labels && dropClasses('flowMatchingLoss', labels, labelDropout, generator),
  };
}
