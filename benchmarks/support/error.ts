// How far results are from the same computed in float64.
import { cast, type Tensor, tidy } from '../../lib';

type Results = readonly (Tensor | null)[];

export const toFloat64 = (x: Tensor): Tensor => cast(x, 'float64');

type Values = ArrayLike<number>;

/** Relative L2 distance of all first values together from the second ones, which are as many. */
export function relativeDistance(pairs: Iterable<readonly [values: Values, reference: Values]>): number {
  let [distance, size] = [0, 0];
  for (const [a, b] of pairs) {
    for (let i = 0; i < a.length; i++) {
      distance += (a[i]! - b[i]!) ** 2;
      size += b[i]! ** 2;
    }
  }
  return Math.sqrt(distance / size);
}

/** That of all of `ours` together from `reference`. Nulls stand for nothing, on both sides. */
export function relativeError(ours: Results, reference: Results): number {
  const pairs = ours.flatMap((x, i) => (x ? [[x.dataSync(), reference[i]!.dataSync()] as const] : []));
  for (const [a, b] of pairs) {
    if (a.length !== b.length) throw new Error(`bench: a result of ${a.length} elements beside one of ${b.length}`);
  }
  return relativeDistance(pairs);
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

/** That of work whose rows do not know each other, on the `first` of its inputs' rows: they stand for all. */
export function errorOfFirst(
  work: (...inputs: Tensor[]) => Results,
  inputs: readonly Tensor[],
  first: (x: Tensor) => Tensor,
): () => number {
  return errorBeside(
    () => work(...inputs.map(first)),
    () => work(...inputs.map((x) => toFloat64(first(x)))),
  );
}
