// The coefficients of f = skip · x + out · F where times are tensors: the host's formulas (schedules, immMapping) in float64
// ops, so that nothing waits for the device and derivatives pass through the times.
import { isFloating } from '../dtype';
import { DTypeError, ShapeError } from '../errors';
import { equal, greaterEqual, lessEqual, where } from '../ops/compare';
import { abs, add, cos, div, mul, neg, pow, sin, sqrt, square, sub } from '../ops/elementwise';
import type { Tensor } from '../tensor';
import { checkFinite } from './checkFinite';
import type { ImmForm, ImmMappingOptions } from './immMapping';
import { type ScheduleName, schedules } from './schedules';

/** A time as float64, its shape and dtype checked. [B] -> [B] */
export function timeTensor(op: string, name: string, time: Tensor, batch: number): Tensor {
  if (time.rank !== 1 || time.shape[0] !== batch) {
    throw new ShapeError(op, `${name} must have shape [${batch}], got [${time.shape.join(', ')}]`);
  }
  if (!isFloating(time.dtype)) throw new DTypeError(op, `${name} must be floating, got ${time.dtype}`);
  return time.to({ dtype: 'float64' });
}

/** Times as they are where 0 ≤ s ≤ t ≤ 1; elsewhere NaN, which {@link checkFinite} then reports on the stream. */
function guarded(t: Tensor, s: Tensor): [Tensor, Tensor] {
  const ordered = where(greaterEqual(s, 0), where(lessEqual(s, t), s, Number.NaN), Number.NaN);
  return [where(lessEqual(t, 1), t, Number.NaN), ordered];
}

interface Path {
  alpha(t: Tensor): Tensor;
  sigma(t: Tensor): Tensor;
  bridge(gap: Tensor): Tensor;
  overlap(s: Tensor, t: Tensor): Tensor;
  norm(t: Tensor): Tensor | null;
  rate: number;
}

const quarterTurns = (t: Tensor) => mul(t, Math.PI / 2);

const paths: Record<ScheduleName, Path> = {
  fm: {
    alpha: (t) => sub(1, t),
    sigma: (t) => t,
    bridge: (gap) => gap,
    overlap: (s, t) => add(mul(sub(1, s), sub(1, t)), mul(s, t)),
    norm: (t) => add(square(sub(1, t)), square(t)),
    rate: schedules.fm.rate,
  },
  vp_cosine: {
    // From its own end, where it is exactly 0.
    alpha: (t) => sin(quarterTurns(sub(1, t))),
    sigma: (t) => sin(quarterTurns(t)),
    bridge: (gap) => sin(quarterTurns(gap)),
    overlap: (s, t) => cos(quarterTurns(sub(t, s))),
    norm: () => null,
    rate: schedules.vp_cosine.rate,
  },
};

interface Form {
  schedule: ScheduleName;
  f: ImmForm;
  sigmaData: number;
}

function coefficientsOf({ schedule, f, sigmaData }: Form, t: Tensor, s: Tensor): { skip: Tensor | null; out: Tensor } {
  const path = paths[schedule];
  const bridge = path.bridge(sub(t, s));
  if (f === 'euler_fm') return { skip: null, out: mul(bridge, -sigmaData) };
  if (f === 'identity') {
    // s = t = 0 is the one place where the quotients have no value of their own.
    const atZero = equal(t, 0);
    const sigma = where(atZero, 1, path.sigma(t));
    return { skip: where(atZero, 1, div(path.sigma(s), sigma)), out: div(bridge, sigma) };
  }
  const norm = path.norm(t);
  const [skip, scaled] = [path.overlap(s, t), mul(neg(bridge), sigmaData)];
  return norm ? { skip: div(skip, norm), out: div(scaled, sqrt(norm)) } : { skip, out: scaled };
}

/**
 * float64 t, s [B] -> skip [B] (null where it is 1 throughout), out [B]. Reading anything computed from a row whose times are
 * out of range or order throws `NumericalError`.
 */
export function tensorCoefficients(form: Form, t: Tensor, s: Tensor): { skip: Tensor | null; out: Tensor } {
  const { skip, out } = coefficientsOf(form, ...guarded(t, s));
  return { skip, out: checkFinite(out, 'a coefficient of f, whose times must be 0 <= s <= t <= 1,') };
}

/** α and σ in float64, of times in [0, 1]. t [B] -> [B] each */
export function tensorShares({ schedule }: Pick<Form, 'schedule'>, t: Tensor): { alpha: Tensor; sigma: Tensor } {
  return { alpha: paths[schedule].alpha(t), sigma: paths[schedule].sigma(t) };
}

/** The mapping's weight w(s, t), which does not depend on s, in float64, of times in [0, 1]. t [B] -> [B] */
export function tensorWeight(
  { schedule, a, b }: Pick<Required<ImmMappingOptions>, 'schedule' | 'a' | 'b'>,
  t: Tensor,
): Tensor {
  const path = paths[schedule];
  const [alpha, sigma] = [path.alpha(t), path.sigma(t)];
  const sum = add(square(sigma), mul(square(alpha), Math.exp(-b)));
  const norm = path.norm(t);
  const scaled = mul(a === 1 ? sigma : mul(sigma, pow(alpha, a - 1)), path.rate);
  return div(scaled, norm ? mul(sum, norm) : sum);
}

/** The mapping's weight of the kernel, 1 / |out|, and 1 where s = t. float64 t, s [B], 0 ≤ s ≤ t ≤ 1 -> [B] */
export function tensorKernelWeight(form: Form, t: Tensor, s: Tensor): Tensor {
  return div(1, abs(where(equal(t, s), 1, coefficientsOf(form, t, s).out)));
}

/** 1 / (sigmaData √(α_t² + σ_t²)) in float64. t [B] -> [B] */
export function tensorInputScale(
  { schedule, sigmaData }: { schedule: ScheduleName; sigmaData: number },
  time: Tensor,
): Tensor {
  const [t] = guarded(time, time);
  const norm = paths[schedule].norm(t);
  // Times without a norm keep their check.
  const scale = norm ? div(1 / sigmaData, sqrt(norm)) : add(mul(t, 0), 1 / sigmaData);
  return checkFinite(scale, 'an input scale, whose time must be in [0, 1],');
}
