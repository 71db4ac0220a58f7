// What a batch of Inductive Moment Matching (arXiv 2503.07565) lacks, drawn: noise, times of the groups, dropped classes.
// Times come from the host, and r from them there, in double precision: r lies so close to t that less would lose t − r.
import { tensor } from '../create';
import { ArgumentError, DTypeError, ShapeError } from '../errors';
import { mul } from '../ops/elementwise';
import { defaultGenerator, type Generator, randn } from '../random';
import { isTensor, type Tensor } from '../tensor';
import type { ImmMapping, ImmTimes } from './immMapping';
import { checkProbability, checkShape, dropClasses } from './rows';

export interface ImmBatch {
  /** Data of standard deviation sigmaData, [B, ...]; M rows after another are a group, which should share its class. */
  x: Tensor;
  /** Like x, of standard deviation sigmaData. Default: drawn. */
  noise?: Tensor;
  /** int32 [B], −1 for no class. Default: no classes. */
  labels?: Tensor | null;
  /** [G] each, G = B / M, s ≤ t, together. Default: drawn. */
  t?: ImmTimes;
  s?: ImmTimes;
  /**
   * [G], s ≤ r ≤ t. Default: the mapping's r(s, t). Where t, s and r are all tensors nothing of them is read on the host; else
   * those that are tensors are, which waits for them.
   */
  r?: ImmTimes;
}

/** An {@link ImmBatch} with nothing missing: noise in float32, or float64 beside such data; times in float64, [G]. */
export interface DrawnImmBatch extends Required<ImmBatch> {
  t: Tensor;
  s: Tensor;
  r: Tensor;
}

/** How what is missing is drawn. */
export interface ImmDraws {
  mapping: ImmMapping;
  /** M, particles of a group, 1 to 64. Default 4. */
  particles?: number;
  /** Values that drawn times take instead of t uniform on (eps, T), s uniform on (eps, t), r by the mapping. */
  times?: { t?: number; s?: number; r?: number };
  /** Weight groups by the mapping's w(s, t), which must then be finite. Default true; else 1. */
  weighting?: boolean;
  /** Probability of dropping the class of a group whose times are drawn. Default 0.1. */
  labelDropout?: number;
  generator?: Generator;
}

const op = 'immLoss';

function checkTimes(name: string, times: ImmTimes, groups: number): void {
  const shape = isTensor(times) ? times.shape : [times.length];
  if (shape.length !== 1 || shape[0] !== groups) {
    throw new ShapeError(op, `${name} must have shape [${groups}], one for each group, got [${shape.join(', ')}]`);
  }
  if (isTensor(times) && times.dtype !== 'float32' && times.dtype !== 'float64') {
    throw new DTypeError(op, `${name} must be float32 or float64, got ${times.dtype}`);
  }
}

const onHost = (times: ImmTimes): number[] =>
  Array.from(isTensor(times) ? (times.dataSync() as ArrayLike<number>) : times);

interface GroupTimes {
  t: number[];
  s: number[];
  /** Where it is given. */
  r: number[] | null;
}

function drawTimes(groups: number, { mapping, times: fixed = {} }: ImmDraws, generator: Generator): GroupTimes {
  const { eps, T } = mapping.options;
  const between = (low: number, high: number, u: number) => low + (high - low) * u;
  const [first, second] = [generator.uniform(groups), generator.uniform(groups)];
  const t = first.map((u) => fixed.t ?? between(eps, T, u));
  return {
    t,
    s: second.map((u, g) => fixed.s ?? between(eps, t[g]!, u)),
    r: fixed.r === undefined ? null : t.map(() => fixed.r!),
  };
}

/** Refuses times out of range or order and weights without bound. -> r of each group */
function endTimes({ t, s, r: given }: GroupTimes, { mapping, weighting = true }: ImmDraws): number[] {
  const r = t.map((time, g) => {
    const from = s[g]!;
    if (!(from >= 0 && from <= time && time <= 1)) {
      throw new ArgumentError(op, `times must be 0 ≤ s ≤ t ≤ 1, got s ${from}, t ${time} for group ${g}`);
    }
    if (!given) return mapping.r(from, time);
    const to = given[g]!;
    if (!(to >= from && to <= time)) {
      throw new ArgumentError(op, `r must be in [s, t] = [${from}, ${time}], got ${to} for group ${g}`);
    }
    return to;
  });
  const bounded = (time: number, g: number) => time === s[g] || Number.isFinite(mapping.weight(s[g]!, time));
  const unbounded = weighting ? t.findIndex((time, g) => !bounded(time, g)) : -1;
  if (unbounded >= 0) {
    throw new ArgumentError(
      op,
      `t must be where the mapping's weight is finite, got ${t[unbounded]} for group ${unbounded}`,
    );
  }
  return r;
}

/**
 * A batch with nothing missing, as `immLoss` would draw it by the same options: for a step whose tensors must be there
 * beforehand, such as one recorded by `captureGraph`.
 *
 * @throws ArgumentError if particles do not divide the batch, or times that are known on the host are out of range or order or
 * have a weight without bound; ShapeError, DTypeError if tensors do not fit
 */
export function drawImmBatch(batch: ImmBatch, options: ImmDraws): DrawnImmBatch {
  const { mapping, particles = 4, labelDropout = 0.1, generator = defaultGenerator } = options;
  const { x, t, s, r } = batch;
  const { shape, device } = x;
  const size = shape[0] ?? 0;
  if (typeof mapping?.inputScale !== 'function') {
    throw new ArgumentError(op, `mapping must be what immMapping gives, got ${typeof mapping}`);
  }
  if (!Number.isInteger(particles) || particles < 1 || particles > 64) {
    throw new ArgumentError(op, `particles must be an integer from 1 to 64, got ${particles}`);
  }
  checkProbability(op, 'labelDropout', labelDropout);
  if (shape.length < 2) throw new ShapeError(op, `x must have shape [B, ...], got [${shape.join(', ')}]`);
  if (size === 0 || size % particles !== 0) {
    throw new ArgumentError(op, `particles must divide the batch of ${size}, got ${particles}`);
  }
  checkShape(op, 'noise', batch.noise, shape);
  checkShape(op, 'labels', batch.labels, [size]);
  if (!t !== !s) throw new ArgumentError(op, 'batch must give t and s together, or neither');
  const groups = size / particles;
  for (const [name, times] of Object.entries({ t, s, r })) if (times) checkTimes(name, times, groups);

  const dtype = x.dtype === 'float64' ? 'float64' : 'float32';
  const noise = batch.noise ?? mul(randn(shape, { dtype, device, generator }), mapping.options.sigmaData);
  const labels = batch.labels ?? null;
  if (isTensor(t) && isTensor(s) && isTensor(r)) {
    const wide = (times: Tensor) => times.to({ dtype: 'float64' });
    return { x, noise, labels, t: wide(t), s: wide(s), r: wide(r) };
  }
  const drawn = !t || !s;
  const host = drawn ? drawTimes(groups, options, generator) : { t: onHost(t), s: onHost(s), r: null };
  if (r) host.r = onHost(r);
  const upload = (values: readonly number[]) => tensor(Float64Array.from(values), { device });
  const times = { r: upload(endTimes(host, options)), t: upload(host.t), s: upload(host.s) };
  return {
    x,
    noise,
    ...times,
    labels: labels && drawn ? dropClasses(op, labels, labelDropout, generator, particles) : labels,
  };
}
