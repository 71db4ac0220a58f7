// The coefficients of f = skip · x + out · F where times are tensors: the host's formulas (schedules, immMapping) in float64
// ops, so that nothing waits for the device and derivatives pass through the times.
import { isFloating } from '../dtype';
import { DTypeError, ShapeError } from '../errors';
import { equal, greaterEqual, lessEqual, where } from '../ops/compare';
import { add, cos, div, mul, neg, sin, sqrt, square, sub } from '../ops/elementwise';
import type { Tensor } from '../tensor';
import { checkFinite } from './checkFinite';
import type { ImmForm } from './immMapping';
import type { ScheduleName } from './schedules';

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
  sigma(t: Tensor): Tensor;
  bridge(gap: Tensor): Tensor;
  overlap(s: Tensor, t: Tensor): Tensor;
  norm(t: Tensor): Tensor | null;
}

const quarterTurns = (t: Tensor) => mul(t, Math.PI / 2);

const paths: Record<ScheduleName, Path> = {
  fm: {
    sigma: (t) => t,
    bridge: (gap) => gap,
    overlap: (s, t) => add(mul(sub(1, s), sub(1, t)), mul(s, t)),
    norm: (t) => add(square(sub(1, t)), square(t)),
  },
  vp_cosine: {
    sigma: (t) => sin(quarterTurns(t)),
    bridge: (gap) => sin(quarterTurns(gap)),
    overlap: (s, t) => cos(quarterTurns(sub(t, s))),
    norm: () => null,
  },
};

/**
 * float64 t, s [B] -> skip [B] (null where it is 1 throughout), out [B]. Reading anything computed from a row whose times are
 * out of range or order throws `NumericalError`.
 */
export function tensorCoefficients(
  { schedule, f, sigmaData }: { schedule: ScheduleName; f: ImmForm; sigmaData: number },
  time: Tensor,
  second: Tensor,
): { skip: Tensor | null; out: Tensor } {
  const path = paths[schedule];
  const [t, s] = guarded(time, second);
  const bridge = path.bridge(sub(t, s));
  const checked = (out: Tensor) => checkFinite(out, 'a coefficient of f, whose times must be 0 <= s <= t <= 1,');
  if (f === 'euler_fm') return { skip: null, out: checked(mul(bridge, -sigmaData)) };
  if (f === 'identity') {
    // s = t = 0 is the one place where the quotients have no value of their own.
    const atZero = equal(t, 0);
    const sigma = where(atZero, 1, path.sigma(t));
    return { skip: where(atZero, 1, div(path.sigma(s), sigma)), out: checked(div(bridge, sigma)) };
  }
  const norm = path.norm(t);
  const [skip, scaled] = [path.overlap(s, t), mul(neg(bridge), sigmaData)];
  return norm ? { skip: div(skip, norm), out: checked(div(scaled, sqrt(norm))) } : { skip, out: checked(scaled) };
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
