// What objectives do with the rows of a batch: numbers per row beside [B, ...], means per row, the path, dropping classes.
import { tensor } from '../create';
import { ArgumentError, ShapeError } from '../errors';
import { where } from '../ops/compare';
import { add, mul, sub } from '../ops/elementwise';
import { mean } from '../ops/reduce';
import { reshape } from '../ops/shape';
import type { Generator } from '../random';
import type { Tensor } from '../tensor';

/** [B] beside [B, ...]. */
export function perSample(t: Tensor, x: Tensor): Tensor {
  return reshape(t, [t.shape[0]!, ...new Array<number>(x.rank - 1).fill(1)]);
}

/** Mean over all but the batch. [B, ...] -> [B] */
export function sampleMean(x: Tensor): Tensor {
  return mean(reshape(x, [x.shape[0]!, -1]), 1);
}

/** x_t = (1 − t) x + t n. x, noise [B, ...], t [B] -> [B, ...] */
export function interpolate(x: Tensor, noise: Tensor, t: Tensor): Tensor {
  const at = perSample(t, x);
  return add(mul(x, sub(1, at)), mul(noise, at));
}

/** Labels with −1 where a row draws below `probability`; rows in runs of `together` share a draw. int32 [B] -> [B] */
export function dropClasses(
  op: string,
  labels: Tensor,
  probability: number,
  generator: Generator,
  together = 1,
): Tensor {
  checkProbability(op, 'labelDropout', probability);
  const draws = generator.uniform(labels.shape[0]! / together).map((u) => u < probability);
  const dropped = draws.flatMap((value) => new Array<boolean>(together).fill(value));
  return where(tensor(dropped, { device: labels.device }), -1, labels);
}

export function checkProbability(op: string, name: string, value: number): void {
  if (!(value >= 0 && value <= 1)) throw new ArgumentError(op, `${name} must be in [0, 1], got ${value}`);
}

/** Throws `ShapeError` unless `given`, where there is one, has this shape. */
export function checkShape(op: string, name: string, given: Tensor | null | undefined, shape: readonly number[]): void {
  if (given && (given.rank !== shape.length || given.shape.some((size, i) => size !== shape[i]))) {
    throw new ShapeError(op, `${name} must have shape [${shape.join(', ')}], got [${given.shape.join(', ')}]`);
  }
}

/** Throws `ShapeError` unless x is [B, ...] with at least one row of at least one element. */
export function checkRows(op: string, x: Tensor): void {
  if (x.rank < 1 || x.size === 0) {
    throw new ShapeError(op, `x must have shape [B, ...] and not be empty, got [${x.shape.join(', ')}]`);
  }
}
