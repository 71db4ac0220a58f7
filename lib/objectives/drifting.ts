// Generative modelling by drifting (arXiv 2602.04770). Symbols: y the network's particles, x data, k a kernel, V the field that
// draws each y to the data and away from the other y; the network regresses on its own drifted particles.
import { stopGradient } from '../autograd/reverse';
import { eye, full } from '../create';
import { isFloating } from '../dtype';
import { ArgumentError, DTypeError, ShapeError } from '../errors';
import { tidy } from '../memory';
import { where } from '../ops/compare';
import { add, cast, div, log1p, maximum, mul, sqrt, square, sub } from '../ops/elementwise';
import type { MmdKernel } from '../ops/mmd';
import { softmax } from '../ops/norm';
import { mean, sum } from '../ops/reduce';
import { concat, reshape, slice } from '../ops/shape';
import { defaultGenerator, type Generator, randn } from '../random';
import type { Tensor } from '../tensor';
import { checkFinite } from './checkFinite';
import { checkProbability, checkRows, checkShape, dropClasses } from './rows';
import type { FlowMapNetwork } from './tvm';

export type DriftingKernel = Exclude<MmdKernel, 'energy'>;

export interface DriftingFieldOptions {
  /** k, as of `mmd` with weight 1: what {@link MmdKernel} says with d = max(‖a − b‖₂, eps). Default 'laplace'. */
  kernel?: DriftingKernel;
  /** h; several: the mean of their fields. Default [1]. */
  bandwidths?: readonly number[];
  /** The least distance. Default 1e-8. */
  eps?: number;
}

// log k, of the squared distances.
const logKernels: Record<DriftingKernel, (squares: Tensor, h: number, dim: number, eps: number) => Tensor> = {
  laplace: (squares, h, dim, eps) => mul(maximum(sqrt(squares), eps), -1 / (h * dim)),
  rbf: (squares, h, dim, eps) => mul(maximum(squares, eps * eps), -0.5 / (h * h * dim)),
  imq: (squares, h, dim, eps) => mul(log1p(mul(maximum(squares, eps * eps), 1 / (h * h * dim))), -0.5),
};

type Field = Required<DriftingFieldOptions>;

function checkField(op: string, options: DriftingFieldOptions): Field {
  const { kernel = 'laplace', bandwidths = [1], eps = 1e-8 } = options;
  if (!Object.hasOwn(logKernels, kernel)) {
    throw new ArgumentError(op, `kernel must be one of ${Object.keys(logKernels).join(', ')}, got '${String(kernel)}'`);
  }
  if (!Array.isArray(bandwidths) || bandwidths.length === 0) {
    throw new ArgumentError(op, `bandwidths must be a list of at least one number, got ${JSON.stringify(bandwidths)}`);
  }
  for (const [name, value] of [...bandwidths.map((h) => ['a bandwidth', h] as const), ['eps', eps] as const]) {
    if (!Number.isFinite(value) || value <= 0) {
      throw new ArgumentError(op, `${name} must be a finite number above 0, got ${value}`);
    }
  }
  return { kernel, bandwidths, eps };
}

// Particle by particle, by direct differences: nothing of size M × N × D exists, and nothing cancels where particles nearly
// agree.
function eachOf(points: Tensor): Tensor[] {
  const [groups, n] = points.shape as [number, number, number];
  return Array.from({ length: n }, (_, j) => slice(points, [0, j], [groups, j + 1]));
}

/** Σ_j w_ij (points_j − y_i), w normalised over j. y [G, M, D], points [G, N, D] -> [G, M, D] */
function pull(y: Tensor, points: Tensor, alone: boolean, { kernel, bandwidths, eps }: Field): Tensor {
  return tidy(() => {
    const targets = eachOf(points);
    const columns = targets.map((point) => tidy(() => sum(square(sub(point, y)), 2, { keepDims: true })));
    const squares = concat(columns, 2);
    const count = targets.length;
    const same = alone ? eye(count, count, { dtype: 'bool', device: y.device }) : null;
    const normalised = (h: number): Tensor => {
      const logs = logKernels[kernel](squares, h, y.shape[2]!, eps);
      return softmax(same ? where(same, Number.NEGATIVE_INFINITY, logs) : logs);
    };
    const weights = div(bandwidths.map(normalised).reduce(add), bandwidths.length);
    return targets.reduce(
      (total, point, j) => {
        const next = tidy(() => {
          const weight = slice(weights, [0, 0, j], [y.shape[0]!, y.shape[1]!, j + 1]);
          return add(total, mul(weight, sub(point, y)));
        });
        total.dispose();
        return next;
      },
      full(y.shape, 0, { dtype: y.dtype, device: y.device }),
    );
  });
}

function field(y: Tensor, x: Tensor, options: Field): Tensor {
  const wide = (points: Tensor) => stopGradient(points.dtype === 'float64' ? points : cast(points, 'float32'));
  return tidy(() => {
    const [from, to] = [wide(y), wide(x)];
    const attraction = pull(from, to, false, options);
    return y.shape[1] === 1 ? attraction : sub(attraction, pull(from, from, true, options));
  });
}

/**
 * The drifting field V_i = Σ_j k(y_i, x_j) (x_j − y_i) / Σ_j k(y_i, x_j) − Σ_{j≠i} k(y_i, y_j) (y_j − y_i) / Σ_{j≠i} k(y_i, y_j)
 * within each group: to the data, away from the other particles; a single particle has none to keep away from. Kernels are
 * normalised by their logarithms, as a softmax is, so that no distance makes them vanish; the field is a constant to every
 * gradient and derivative.
 * y [G, M, D], x [G, N, D] -> [G, M, D], float64 for float64 particles, else float32
 *
 * @throws ShapeError, DTypeError if the tensors do not fit; ArgumentError for an unknown kernel, or a bandwidth or an eps that is
 *   not positive and finite
 */
export function driftingField(y: Tensor, x: Tensor, options: DriftingFieldOptions = {}): Tensor {
  const op = 'driftingField';
  const checked = checkField(op, options);
  for (const [name, points] of Object.entries({ y, x })) {
    if (points.rank !== 3 || points.size === 0) {
      const expected = name === 'y' ? '[G, M, D]' : '[G, N, D]';
      throw new ShapeError(
        op,
        `${name} must have shape ${expected} and not be empty, got [${points.shape.join(', ')}]`,
      );
    }
    if (!isFloating(points.dtype)) throw new DTypeError(op, `${name} must be floating, got ${points.dtype}`);
  }
  if (x.shape[0] !== y.shape[0] || x.shape[2] !== y.shape[2]) {
    throw new ShapeError(op, `x must have shape [${y.shape[0]}, N, ${y.shape[2]}], got [${x.shape.join(', ')}]`);
  }
  if (x.dtype !== y.dtype) throw new DTypeError(op, `x must have the dtype ${y.dtype} of y, got ${x.dtype}`);
  return field(y, x, checked);
}

export interface DriftingBatch {
  /** Data, [B, ...], unit standard deviation. */
  x: Tensor;
  /** Like x. Default: drawn, and then classes are dropped by `labelDropout`. */
  noise?: Tensor;
  /** int32 [B], −1 for no class; the rows of a group should share theirs. Default: no classes. */
  labels?: Tensor | null;
}

/** How what is missing is drawn. */
export interface DriftingDraws {
  /** Rows of a group, M; divides B. Particles and data of different groups do not meet. */
  particles: number;
  /** Probability of dropping the class of a group, where noise is drawn. Default 0.1. */
  labelDropout?: number;
  generator?: Generator;
}

export interface DriftingOptions extends DriftingFieldOptions, DriftingDraws {
  /** How far particles are asked to drift, in V; above 0. Default 1. */
  step?: number;
  /** The time that noise is given as. Default 1. */
  t?: number;
  /** The time of data, below t. Default 0. */
  s?: number;
}

export interface DriftingResult {
  /** Mean over groups and elements, []. */
  loss: Tensor;
  /** mean V² of each group, [G]: small where the particles are as the data are. */
  drift: Tensor;
}

const op = 'driftingLoss';

/**
 * A batch with nothing missing, as `driftingLoss` would draw it: for a step whose tensors must be there beforehand, such as one
 * recorded by `captureGraph`.
 *
 * @throws ShapeError where shapes do not fit; ArgumentError for options out of range, or a batch that `particles` does not divide
 */
export function drawDriftingBatch(batch: DriftingBatch, options: DriftingDraws): Required<DriftingBatch> {
  const { particles, labelDropout = 0.1, generator = defaultGenerator } = options ?? {};
  const { x, labels = null } = batch;
  checkRows(op, x);
  const size = x.shape[0]!;
  const { dtype, device } = x;
  if (!Number.isInteger(particles) || particles < 1 || size % particles !== 0) {
    throw new ArgumentError(
      op,
      `particles must be an integer of at least 1 that divides the batch ${size}, got ${particles}`,
    );
  }
  checkProbability(op, 'labelDropout', labelDropout);
  checkShape(op, 'noise', batch.noise, x.shape);
  checkShape(op, 'labels', batch.labels, [size]);
  if (batch.noise) return { x, labels, noise: batch.noise };
  return {
    x,
    noise: randn(x.shape, { dtype, device, generator }),
    labels: labels && dropClasses(op, labels, labelDropout, generator, particles),
  };
}

function checkOptions({ step = 1, t = 1, s = 0, ...field }: Omit<DriftingOptions, keyof DriftingDraws>) {
  if (!Number.isFinite(step) || step <= 0) {
    throw new ArgumentError(op, `step must be a finite number above 0, got ${step}`);
  }
  if (!(t > 0 && t <= 1)) throw new ArgumentError(op, `t must be in (0, 1], got ${t}`);
  if (!(s >= 0 && s < t)) throw new ArgumentError(op, `s must be in [0, t), t being ${t}, got ${s}`);
  return { step, t, s, fieldOptions: checkField(op, field) };
}

/**
 * The drifting loss: mean ‖y − sg(y + step V)‖² with y = n − (t − s) F(n, t, s), the jump from noise to data that
 * `sampleFlowMap` makes in one step, and V the {@link driftingField} of each group's y to its x. Its gradient by y is
 * −2 step V / elements, so its value is no more than the size of the field. Groups are consecutive rows. What the batch
 * leaves out is drawn; with noise given the loss is deterministic.
 * x, noise [B, ...], labels [B] -> loss [], drift [B / particles]
 *
 * @returns tensors that throw `NumericalError`, naming the group as a row, when read if a field is not finite
 * @throws ShapeError where shapes do not fit; ArgumentError for options out of range, or a batch that `particles` does not divide
 */
export function driftingLoss(net: FlowMapNetwork, batch: DriftingBatch, options: DriftingOptions): DriftingResult {
  const { particles, labelDropout, generator, ...others } = options ?? {};
  const { step, t, s, fieldOptions } = checkOptions(others);
  const { x, noise, labels } = drawDriftingBatch(batch, { particles, labelDropout, generator });
  const size = x.shape[0]!;
  const { dtype, device } = x;
  const time = (value: number) => full([size], value, { dtype, device });
  const F = net.forward(noise, time(t), time(s), { labels });
  const grouped = (points: Tensor) => reshape(points, [size / particles, particles, -1]);
  const y = grouped(sub(noise, mul(F, t - s)));
  const V = field(y, grouped(x), fieldOptions);
  // y − sg(y) is zero with a gradient: the difference of y and its drifted self without the rounding of y.
  const wide = V.dtype === y.dtype ? y : cast(y, V.dtype);
  const difference = sub(sub(wide, stopGradient(wide)), mul(V, step));
  const drift = checkFinite(mean(square(V), [1, 2]), 'drift of a group');
  const error = checkFinite(mean(square(difference), [1, 2]), 'drifting loss of a group');
  return { loss: mean(error), drift };
}
