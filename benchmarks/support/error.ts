// How far results are from the same computed in float64.
import { cast, type Tensor, tidy } from '../../lib';

type Results = readonly (Tensor | null)[];

export const toFloat64 = (x: Tensor): Tensor => cast(x, 'float64');

/** Relative L2 distance of all of `ours` together from `reference`. Nulls stand for nothing, on both sides. */
export function relativeError(ours: Results, reference: Results): number {
  let [distance, size] = [0, 0];
  for (const [i, x] of ours.entries()) {
    if (!x) continue;
    const [a, b] = [x.dataSync(), reference[i]!.dataSync()];
    if (a.length !== b.length) throw new Error(`bench: a result of ${a.length} elements beside one of ${b.length}`);
    for (let j = 0; j < a.length; j++) {
      distance += (a[j]! - b[j]!) ** 2;
      size += b[j]! ** 2;
    }
  }
  return Math.sqrt(distance / size);
}

/** For a subject's `error`: runs both once and keeps nothing. */
export function errorBeside(ours: () => Results, reference: () => Results): () => number {
  return () => {
    let error = Number.NaN;
    tidy(() => {
      error = relativeError(ours(), reference());
    });
    return error;
  };
}
