// The maps of Inductive Moment Matching (arXiv 2503.07565): f_{t→s}, the step from t down to r, the weights. r lies so
// close to t that single precision would lose most of t − r: everything is computed in double, on the host.
import { tensor } from '../create';
import { ArgumentError, DTypeError, ShapeError } from '../errors';
import { add, mul } from '../ops/elementwise';
import { reshape } from '../ops/shape';
import { isTensor, type Tensor } from '../tensor';
import { tensorCoefficients, timeTensor } from './immCoefficients';
import { type Schedule, type ScheduleName, schedules } from './schedules';

export const immForms = ['identity', 'simple_edm', 'euler_fm'] as const;
export type ImmForm = (typeof immForms)[number];

export interface ImmMappingOptions {
  /** x_t = α x + σ n with α = 1 − t, σ = t ('fm') or cosine and sine of πt/2 ('vp_cosine'). Default 'fm'. */
  schedule?: ScheduleName;
  /**
   * What F means: the data x ('identity'); (α_t n − σ_t x) / (sigmaData √(α_t² + σ_t²)) ('simple_edm'); the velocity
   * (n − x) / sigmaData ('euler_fm', on 'fm' only). Default 'euler_fm'.
   */
  f?: ImmForm;
  /** Power of α in the weight, at least 0. Default 1. */
  a?: number;
  /** Offset of the weight's sigmoid in λ, of magnitude at most 700. Default 4. */
  b?: number;
  /** A step from t to r lowers η by (etaMax − etaMin) / 2^k. Default 12. */
  k?: number;
  /** η below which r does not go, at least 0. Default 0. */
  etaMin?: number;
  /** Default 160. */
  etaMax?: number;
  /** Standard deviation of the data and of the noise. Default 0.5. */
  sigmaData?: number;
  /** Least time of training and sampling, in [0, T). Default 0. */
  eps?: number;
  /** Greatest time, in (eps, 1]. Default 0.994. */
  T?: number;
}

/** ImmTimes [B]: numbers, or a floating tensor. */
export type ImmTimes = readonly number[] | Float64Array | Tensor;

/** f = skip · x + out · F. */
export interface ImmCoefficients {
  skip: number;
  out: number;
}

/**
 * What {@link immMapping} gives. Functions of times take 0 ≤ s ≤ t ≤ 1 and throw `ArgumentError` elsewhere; at the ends
 * they give the limit, an infinity where that is one, never NaN.
 */
export interface ImmMapping {
  readonly options: Readonly<Required<ImmMappingOptions>>;
  /** Share of the data in x_t. */
  alpha(t: number): number;
  /** Share of the noise in x_t. */
  sigma(t: number): number;
  /** σ / α; ∞ at t = 1. */
  eta(t: number): number;
  /** The time of an η in [0, ∞]. */
  etaInverse(eta: number): number;
  /** λ = 2 ln(α / σ); ∞ at t = 0, −∞ at t = 1. */
  logSnr(t: number): number;
  /** The time of any λ, infinite ones too. */
  logSnrInverse(lambda: number): number;
  /** dλ/dt, negative; −∞ at both ends. */
  logSnrDerivative(t: number): number;
  /**
   * max(s, η⁻¹(max(η_t − Δ, etaMin))), Δ = (etaMax − etaMin) / 2^k: rounded once. Never above t, so t itself where η_t is
   * below etaMin or infinite.
   */
  r(s: number, t: number): number;
  /** t − r(s, t) before r is rounded: full relative precision. */
  gap(s: number, t: number): number;
  /** ½ sigmoid(b − λ_t) (−dλ/dt) α_t^a / (α_t² + σ_t²), which tends to 0 with t; ∞ only at t = 1 with a < 1. */
  weight(s: number, t: number): number;
  /** 1 / |out|, the w̃ of the Laplace kernel; ∞ at s = t, where f does not depend on F. */
  kernelWeight(s: number, t: number): number;
  /** At s = t exactly { skip: 1, out: 0 }. */
  coefficients(s: number, t: number): ImmCoefficients;
  /** c_in = 1 / (sigmaData √(α_t² + σ_t²)), which gives the network inputs of unit variance. */
  inputScale(t: number): number;
  /**
   * f_{t→s}(x) for a network's output F: x, F [B, ...], t, s [B] -> [B, ...], in the dtype of x. Coefficients are computed in
   * float64. Differentiable through x and F, and through t and s where these are tensors.
   *
   * @throws ShapeError if the shapes differ, DTypeError if the dtypes of x and F do; ArgumentError if times that are numbers
   * are out of range or order. Of tensors that is only known later: reading the result throws `NumericalError`.
   */
  f(x: Tensor, F: Tensor, t: ImmTimes, s: ImmTimes): Tensor;
}

/** Settings by data set; 'cifar10' takes second times as they are, the others as strides. */
export const immPresets = {
  cifar10: { schedule: 'fm', f: 'simple_edm', a: 1, b: 5, k: 15, sigmaData: 0.5, eps: 0.006, T: 0.994 },
  imagenet: { schedule: 'fm', f: 'euler_fm', a: 2, b: 4, k: 12, sigmaData: 0.5, eps: 0, T: 0.994 },
  digits: { schedule: 'fm', f: 'euler_fm', a: 1, b: 4, k: 12, sigmaData: 1, eps: 0, T: 0.994 },
} as const satisfies Record<string, ImmMappingOptions>;

const defaults: Required<ImmMappingOptions> = {
  schedule: 'fm',
  f: 'euler_fm',
  a: 1,
  b: 4,
  k: 12,
  etaMin: 0,
  etaMax: 160,
  sigmaData: 0.5,
  eps: 0,
  T: 0.994,
};

function checkOptions(given: ImmMappingOptions): Required<ImmMappingOptions> {
  const op = 'immMapping';
  const known = Object.keys(defaults);
  for (const name of Object.keys(given)) {
    if (!known.includes(name)) throw new ArgumentError(op, `options must be among ${known.join(', ')}, got '${name}'`);
  }
  const stated = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const options: Required<ImmMappingOptions> = { ...defaults, ...stated };
  const { schedule, f, a, b, k, etaMin, etaMax, sigmaData, eps, T } = options;
  const refuse = (name: string, expected: string, got: unknown): never => {
    throw new ArgumentError(op, `${name} must be ${expected}, got ${typeof got === 'string' ? `'${got}'` : got}`);
  };
  const quoted = (names: readonly string[]) => names.map((name) => `'${name}'`).join(', ');
  if (!Object.hasOwn(schedules, schedule)) refuse('schedule', `one of ${quoted(Object.keys(schedules))}`, schedule);
  if (!immForms.includes(f)) refuse('f', `one of ${quoted(immForms)}`, f);
  if (f === 'euler_fm' && schedule !== 'fm') refuse('schedule', `'fm' where f is 'euler_fm'`, schedule);
  for (const [name, value] of Object.entries({ a, b, k, etaMin, etaMax, sigmaData, eps, T })) {
    if (!Number.isFinite(value)) refuse(name, 'a finite number', value);
  }
  if (a < 0) refuse('a', 'at least 0', a);
  if (Math.abs(b) > 700) refuse('b', 'in [-700, 700]', b);
  if (k < 0 || k > 1000) refuse('k', 'in [0, 1000]', k);
  if (etaMin < 0) refuse('etaMin', 'at least 0', etaMin);
  if (etaMax <= etaMin) refuse('etaMax', `above etaMin ${etaMin}`, etaMax);
  if (sigmaData <= 0) refuse('sigmaData', 'above 0', sigmaData);
  if (T <= 0 || T > 1) refuse('T', 'in (0, 1]', T);
  if (eps < 0 || eps >= T) refuse('eps', `in [0, T), T being ${T}`, eps);
  return options;
}

function checkTime(op: string, name: string, time: number): void {
  if (typeof time !== 'number' || !(time >= 0 && time <= 1)) {
    throw new ArgumentError(op, `${name} must be in [0, 1], got ${time}`);
  }
}

function checkTimes(op: string, s: number, t: number): void {
  checkTime(op, 't', t);
  checkTime(op, 's', s);
  if (s > t) throw new ArgumentError(op, `s must be at most t ${t}, got ${s}`);
}

function coefficientsOf(path: Schedule, f: ImmForm, sigmaData: number, s: number, t: number): ImmCoefficients {
  if (s === t) return { skip: 1, out: 0 };
  const bridge = path.bridge(t - s);
  switch (f) {
    case 'identity':
      return { skip: path.sigma(s) / path.sigma(t), out: bridge / path.sigma(t) };
    case 'simple_edm':
      return { skip: path.overlap(s, t) / path.norm(t), out: (-sigmaData * bridge) / Math.sqrt(path.norm(t)) };
    case 'euler_fm':
      return { skip: 1, out: -(t - s) * sigmaData };
    default:
      throw new ArgumentError('immMapping', `f must be one of ${immForms.join(', ')}, got '${f satisfies never}'`);
  }
}

/** ImmTimes on the host, of one length. */
function checkList(op: string, name: string, times: readonly number[] | Float64Array, batch: number): void {
  if (times.length !== batch) throw new ShapeError(op, `${name} must have shape [${batch}], got [${times.length}]`);
}

/**
 * The schedule, the map f_{t→s} and the weights of Inductive Moment Matching, from one set of options. The returned object is
 * frozen and its functions are pure.
 *
 * @throws ArgumentError naming the option that is unknown, not finite or out of range
 */
export function immMapping(given: ImmMappingOptions = {}): ImmMapping {
  const options = Object.freeze(checkOptions(given));
  const { schedule, f: form, a, b, k, etaMin, etaMax, sigmaData } = options;
  const path: Schedule = schedules[schedule];
  const step = (etaMax - etaMin) / 2 ** k;
  const lowest = path.etaInverse(etaMin);
  const snrOffset = Math.exp(-b);
  const etaOf = (t: number) => path.sigma(t) / path.alpha(t);
  const ofTime =
    (name: string, value: (t: number) => number): ((t: number) => number) =>
    (t) => {
      checkTime(`immMapping.${name}`, 't', t);
      return value(t);
    };
  const ofTimes =
    <Result>(name: string, value: (s: number, t: number) => Result): ((s: number, t: number) => Result) =>
    (s, t) => {
      checkTimes(`immMapping.${name}`, s, t);
      return value(s, t);
    };
  // Where the floor of η is reached, the gap is from t to the floor's time; elsewhere it is the step's own.
  const gap = (s: number, t: number) => {
    const reachesFloor = etaOf(t) - step <= etaMin;
    return Math.min(t - s, reachesFloor ? Math.max(t - lowest, 0) : path.stepBack(t, step));
  };
  const r = (s: number, t: number) => {
    if (etaOf(t) - step <= etaMin) return Math.max(s, Math.min(lowest, t));
    return Math.max(s, Math.min(lowest, t), t - path.stepBack(t, step));
  };
  // sigmoid(b − λ) = σ² / (σ² + e⁻ᵇ α²), −λ'/2 = rate / (α σ): the product has no infinity in it.
  const weight = (t: number) => {
    if (t === 0) return 0;
    const [alpha, sigma] = [path.alpha(t), path.sigma(t)];
    return (path.rate * sigma * alpha ** (a - 1)) / ((sigma * sigma + snrOffset * alpha * alpha) * path.norm(t));
  };
  const coefficients = (s: number, t: number) => coefficientsOf(path, form, sigmaData, s, t);

  const f = (x: Tensor, F: Tensor, t: ImmTimes, s: ImmTimes): Tensor => {
    const op = 'immMapping.f';
    if (x.rank < 1) throw new ShapeError(op, 'x must have shape [B, ...], got []');
    if (F.shape.join() !== x.shape.join()) {
      throw new ShapeError(op, `F must have the shape [${x.shape.join(', ')}] of x, got [${F.shape.join(', ')}]`);
    }
    if (F.dtype !== x.dtype) throw new DTypeError(op, `F must have the dtype ${x.dtype} of x, got ${F.dtype}`);
    const batch = x.shape[0]!;
    const column = [batch, ...new Array<number>(x.rank - 1).fill(1)];
    let skip: Tensor | null;
    let out: Tensor;
    if (isTensor(t) || isTensor(s)) {
      const upload = (name: string, times: ImmTimes) =>
        timeTensor(op, name, isTensor(times) ? times : tensor(Float64Array.from(times), { device: x.device }), batch);
      ({ skip, out } = tensorCoefficients(options, upload('t', t), upload('s', s)));
    } else {
      checkList(op, 't', t, batch);
      checkList(op, 's', s, batch);
      const rows = Array.from(t, (time, i) => {
        checkTimes(op, s[i]!, time);
        return coefficients(s[i]!, time);
      });
      const upload = (values: readonly number[]) => tensor(Float64Array.from(values), { device: x.device });
      skip = form === 'euler_fm' ? null : upload(rows.map((row) => row.skip));
      out = upload(rows.map((row) => row.out));
    }
    const beside = (value: Tensor) => reshape(value.to({ dtype: x.dtype }), column);
    return add(skip ? mul(x, beside(skip)) : x, mul(F, beside(out)));
  };

  return Object.freeze({
    options,
    alpha: ofTime('alpha', path.alpha),
    sigma: ofTime('sigma', path.sigma),
    eta: ofTime('eta', etaOf),
    etaInverse: (eta: number) => {
      if (!(eta >= 0)) throw new ArgumentError('immMapping.etaInverse', `eta must be at least 0, got ${eta}`);
      return path.etaInverse(eta);
    },
    logSnr: ofTime('logSnr', (t) => 2 * (Math.log(path.alpha(t)) - Math.log(path.sigma(t)))),
    logSnrInverse: (lambda: number) => {
      if (typeof lambda !== 'number' || Number.isNaN(lambda)) {
        throw new ArgumentError('immMapping.logSnrInverse', `lambda must be a number, got ${lambda}`);
      }
      return path.etaInverse(Math.exp(-lambda / 2));
    },
    logSnrDerivative: ofTime('logSnrDerivative', (t) => (-2 * path.rate) / (path.alpha(t) * path.sigma(t))),
    r: ofTimes('r', r),
    gap: ofTimes('gap', gap),
    weight: ofTimes('weight', (_, t) => weight(t)),
    kernelWeight: ofTimes('kernelWeight', (s, t) => 1 / Math.abs(coefficients(s, t).out)),
    coefficients: ofTimes('coefficients', coefficients),
    inputScale: ofTime('inputScale', (t) => 1 / (sigmaData * Math.sqrt(path.norm(t)))),
    f,
  });
}
