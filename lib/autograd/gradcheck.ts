// Holds derivatives to finite differences, in double precision.
import { tensor } from '../create';
import { AutogradError, DTypeError } from '../errors';
import { tidy } from '../memory';
import { isTensor, type Tensor } from '../tensor';
import { jvp } from './forward';
import { vjp } from './reverse';

export interface GradcheckOptions {
  /** Step of the central differences. Default 1e-6. */
  step?: number;
  /** Allowed difference, relative to the size of what is compared (plus one). Default 1e-6. */
  tolerance?: number;
  /** Also check the gradient of the forward-mode derivative. Default true. */
  second?: boolean;
  /** Seed of the random directions. Default 0. */
  seed?: number;
}

type Outcome = Tensor | readonly Tensor[];

// A small deterministic source of directions (mulberry32), so that a failure can be repeated.
function directions(seed: number): () => number {
  let state = (seed + 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 15), z | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

function asList(outcome: Outcome): readonly Tensor[] {
  return isTensor(outcome) ? [outcome] : outcome;
}

function dot(a: readonly ArrayLike<number>[], b: readonly ArrayLike<number>[]): number {
  let sum = 0;
  for (const [k, x] of a.entries()) for (let i = 0; i < x.length; i++) sum += x[i]! * b[k]![i]!;
  return sum;
}

/**
 * Checks a function's derivatives at `inputs`, each along random directions: forward mode against central differences,
 * reverse mode against forward mode by inner product, and the gradient of the forward-mode derivative against central
 * differences of it. Inputs must be float64; `f` must be smooth around them and give one or more float64 tensors.
 *
 * @throws AutogradError naming the check that failed and the two numbers
 */
export function gradcheck(
  f: (...inputs: Tensor[]) => Outcome,
  inputs: readonly Tensor[],
  options: GradcheckOptions = {},
): void {
  const { step = 1e-6, tolerance = 1e-6, second = true, seed = 0 } = options;
  for (const x of inputs) {
    if (x.dtype !== 'float64') throw new DTypeError('gradcheck', `inputs must be float64, got ${x.dtype}`);
  }
  tidy(() => {
    const random = directions(seed);
    const like = (x: Tensor) => Float64Array.from({ length: x.size }, random);
    const upload = (values: Float64Array, x: Tensor) =>
      tensor(values, { shape: x.shape, dtype: 'float64', device: x.device });
    const values = inputs.map((x) => Float64Array.from(x.dataSync()));
    const tangentValues = inputs.map(like);
    const tangents = tangentValues.map((t, i) => upload(t, inputs[i]!));
    const shifted = (direction: readonly Float64Array[], by: number) =>
      inputs.map((x, i) =>
        upload(
          values[i]!.map((v, j) => v + by * direction[i]![j]!),
          x,
        ),
      );
    const compare = (what: string, got: number, expected: number, scale: number) => {
      if (!(Math.abs(got - expected) <= tolerance * (1 + scale))) {
        throw new AutogradError('gradcheck', `${what}: got ${got}, expected ${expected} (scale ${scale})`);
      }
    };
    // Sum of absolute terms: what rounding of the differences is relative to.
    const sizeOf = (a: readonly ArrayLike<number>[], b: readonly ArrayLike<number>[]) =>
      dot(
        a.map((x) => Array.from(x, Math.abs)),
        b.map((x) => Array.from(x, Math.abs)),
      );
    const read = (outcome: Outcome) => asList(outcome).map((y) => y.dataSync());

    const [out, derivative] = jvp((...xs: Tensor[]) => asList(f(...xs)), [...inputs], tangents);
    const weightValues = out.map(like);
    const weights = weightValues.map((w, i) => upload(w, out[i]!));
    const forward = read(derivative);
    const plus = read(f(...shifted(tangentValues, step)));
    const minus = read(f(...shifted(tangentValues, -step)));
    const differences = plus.map((p, k) => Float64Array.from(p, (v, i) => (v - minus[k]![i]!) / (2 * step)));
    compare(
      'forward mode against differences',
      dot(weightValues, forward),
      dot(weightValues, differences),
      sizeOf(weightValues, forward),
    );

    const [, pullback] = vjp((...xs: Tensor[]) => asList(f(...xs)), inputs as Tensor[]);
    const cotangents = (pullback(weights) as Tensor[]).map((g) => g.dataSync());
    pullback.dispose();
    compare(
      'reverse mode against forward mode',
      dot(cotangents, tangentValues),
      dot(weightValues, forward),
      sizeOf(cotangents, tangentValues),
    );

    if (!second) return;
    const along = (xs: readonly Tensor[]) => jvp((...ys: Tensor[]) => asList(f(...ys)), [...xs], tangents)[1];
    const [, pullSecond] = vjp((...xs: Tensor[]) => along(xs), inputs as Tensor[]);
    const gradient = (pullSecond(weights) as Tensor[]).map((g) => g.dataSync());
    pullSecond.dispose();
    const other = inputs.map(like);
    const up = read(along(shifted(other, step)));
    const down = read(along(shifted(other, -step)));
    const change = up.map((p, k) => Float64Array.from(p, (v, i) => (v - down[k]![i]!) / (2 * step)));
    compare(
      'gradient of the forward-mode derivative against differences',
      dot(gradient, other),
      dot(weightValues, change),
      sizeOf(gradient, other) + sizeOf(weightValues, forward),
    );
  });
}
