// The laws times are drawn from, in double precision on the host.
import { ArgumentError } from '../errors';
import { defaultGenerator, type Generator } from '../random';

export function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

export function logit(p: number): number {
  return Math.log(p) - Math.log1p(-p);
}

/** The normal distribution function, to about 1e-15: erfc by its continued fraction in the tails, by its series inside. */
export function normalCdf(x: number): number {
  const z = Math.abs(x) / Math.SQRT2;
  let upper: number;
  if (z < 2.5) {
    let term = z;
    let sum = z;
    for (let n = 1; n < 80; n++) {
      term *= (-z * z) / n;
      sum += term / (2 * n + 1);
    }
    upper = 0.5 - sum / Math.sqrt(Math.PI);
  } else {
    let fraction = 0;
    for (let n = 60; n >= 1; n--) fraction = n / 2 / (z + fraction);
    upper = Math.exp(-z * z) / (2 * Math.sqrt(Math.PI) * (z + fraction));
  }
  return x > 0 ? 1 - upper : upper;
}

/** Its inverse: a rational start (Acklam), two steps of Halley. */
export function normalQuantile(p: number): number {
  if (!(p > 0 && p < 1)) return p === 0 ? Number.NEGATIVE_INFINITY : p === 1 ? Number.POSITIVE_INFINITY : Number.NaN;
  const a = [
    -39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716, 2.506628277459239,
  ];
  const b = [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572];
  const c = [
    -0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968,
    2.938163982698783,
  ];
  const d = [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416];
  const poly = (k: readonly number[], x: number) => k.reduce((sum, value) => sum * x + value, 0);
  let x: number;
  if (p < 0.02425 || p > 1 - 0.02425) {
    const q = Math.sqrt(-2 * Math.log(Math.min(p, 1 - p)));
    x = (p < 0.5 ? 1 : -1) * (poly(c, q) / (poly(d, q) * q + 1));
  } else {
    const q = p - 0.5;
    const r = q * q;
    x = (poly(a, r) * q) / (poly(b, r) * r + 1);
  }
  for (let i = 0; i < 2; i++) {
    const error = (normalCdf(x) - p) * Math.sqrt(2 * Math.PI) * Math.exp((x * x) / 2);
    x -= error / (1 + (x * error) / 2);
  }
  return x;
}

/** A logit-normal law: sigmoid(mean + std · z). */
export interface LogitNormal {
  mean: number;
  std: number;
}

export function logitNormal(n: number, { mean, std }: LogitNormal, generator: Generator = defaultGenerator): number[] {
  checkLaw('logitNormal', { mean, std });
  return generator.normal(n).map((z) => sigmoid(mean + std * z));
}

function checkLaw(op: string, { mean, std }: LogitNormal): void {
  if (!Number.isFinite(mean) || !Number.isFinite(std) || std < 0) {
    throw new ArgumentError(op, `a law must have a finite mean and a finite std of at least 0, got ${mean} and ${std}`);
  }
}

export interface TvmTimesOptions {
  /** Law of t − s. Default mean −0.8, std 1. */
  gap?: LogitNormal;
  /** Law of s, truncated so that s + gap ≤ 1. Default mean −0.4, std 1. */
  s?: LogitNormal;
  /** Law of s'. Default mean −0.4, std 1. */
  sPrime?: LogitNormal;
  /** Share of the batch, its first rows, at t = 1 with s from the untruncated law `startS`. Default 0. */
  startShare?: number;
  /** Law of s where t = 1. Default that of `s`. */
  startS?: LogitNormal;
  generator?: Generator;
}

/** Times of a Terminal Velocity Matching batch, on the host. */
export interface TvmTimes {
  t: number[];
  s: number[];
  sPrime: number[];
}

/**
 * Draws (t, s, s') as in arXiv 2511.19797: gap = sigmoid(N), logit(s) normal truncated to logit(s) ≤ logit(1 − gap) by
 * inverse distribution function, t = min(s + gap, 1), s' independent. Which law suits depends on the data more than
 * anything else does.
 */
export function tvmTimes(batch: number, options: TvmTimesOptions = {}): TvmTimes {
  const standard = { mean: -0.4, std: 1 };
  const { gap = { mean: -0.8, std: 1 }, s: law = standard, sPrime = standard, startShare = 0 } = options;
  const { startS = law, generator = defaultGenerator } = options;
  if (!Number.isInteger(batch) || batch < 0) {
    throw new ArgumentError('tvmTimes', `batch must be an integer of at least 0, got ${batch}`);
  }
  if (!(startShare >= 0 && startShare <= 1)) {
    throw new ArgumentError('tvmTimes', `startShare must be in [0, 1], got ${startShare}`);
  }
  for (const each of [gap, law, sPrime, startS]) checkLaw('tvmTimes', each);
  const atStart = Math.round(batch * startShare);
  const gaps = logitNormal(batch, gap, generator);
  const uniform = generator.uniform(batch);
  const starts = logitNormal(batch, startS, generator);
  const t: number[] = [];
  const s: number[] = [];
  for (let i = 0; i < batch; i++) {
    if (i < atStart) {
      t.push(1);
      s.push(starts[i]!);
      continue;
    }
    const bound = law.std > 0 ? normalCdf((logit(1 - gaps[i]!) - law.mean) / law.std) : 1;
    const z = normalQuantile(Math.max(uniform[i]! * bound, 1e-300));
    const value = Math.min(sigmoid(law.mean + law.std * z), 1 - gaps[i]!);
    s.push(value);
    t.push(Math.min(value + gaps[i]!, 1));
  }
  return { t, s, sPrime: logitNormal(batch, sPrime, generator) };
}
