// How far a peer's results are from flowmap's. Times of different results would mean nothing.
import type { Tensor } from '../../lib';
import { relativeDistance } from '../support/error';

export type Outputs = ReadonlyMap<string, Tensor | Float32Array>;

/** An order above what float32 leaves where distances of near particles cancel, and far below any mistake. */
const float32Tolerance = 3e-4;

/** Relative L2 distance over the names of ours. @throws Error where one is missing or the results are not the same */
export function difference(
  peer: string,
  ours: ReadonlyMap<string, Tensor>,
  theirs: Outputs,
  tolerance = float32Tolerance,
): number {
  const pairs = [...ours].map(([name, x]) => {
    const other = theirs.get(name);
    if (!other) throw new Error(`bench: ${peer} gave no ${name}`);
    const [a, b] = [x.dataSync(), other instanceof Float32Array ? other : other.dataSync()];
    if (a.length !== b.length) {
      throw new Error(`bench: ${peer} gave ${b.length} elements of ${name}, expected ${a.length}`);
    }
    return [b, a] as const;
  });
  const relative = relativeDistance(pairs);
  if (relative <= tolerance) return relative;
  throw new Error(
    `bench: the results of ${peer} differ by ${relative.toExponential(1)}, expected at most ${tolerance}`,
  );
}
