// The test every differentiable op passes: value in each dtype against float64, and its derivatives to second order.
import { dispose, type GradcheckOptions, gradcheck, isTensor, type Tensor, tensor } from '../../lib';
import { type FloatingDType, floatingDTypes, tolerances } from './tolerances';

export interface Sample {
  shape: readonly number[];
  values: ArrayLike<number>;
}

/** Values from a fixed pseudo-random sequence, roughly normal, or uniform in [low, high) where given. */
export function sample(shape: readonly number[], seed: number, range?: { low: number; high: number }): Sample {
  // A counter through a mixing function: samples of neighbouring seeds must not be correlated.
  let counter = Math.imul(seed + 1, 0x9e3779b9);
  const uniform = () => {
    counter = (counter + 0x6d2b79f5) | 0;
    let x = Math.imul(counter ^ (counter >>> 15), counter | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 8) / 2 ** 24;
  };
  const size = shape.reduce((a, b) => a * b, 1);
  const draw = range
    ? () => range.low + (range.high - range.low) * uniform()
    : () => uniform() + uniform() + uniform() + uniform() + uniform() + uniform() - 3 + 0.25 * (uniform() - 0.5);
  const values = new Float64Array(size);
  for (let i = 0; i < size; i++) values[i] = draw();
  return { shape, values };
}

/** ‖got − expected‖ / ‖expected‖; the absolute norm where the expected one is zero. */
export function relativeError(got: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (got.length !== expected.length) return Number.POSITIVE_INFINITY;
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < got.length; i++) {
    difference += (got[i]! - expected[i]!) ** 2;
    norm += expected[i]! ** 2;
  }
  return norm > 0 ? Math.sqrt(difference / norm) : Math.sqrt(difference);
}

export interface CheckOptions extends GradcheckOptions {
  /** Default: all floating types. */
  dtypes?: readonly FloatingDType[];
  /** Multiplies the table's tolerance, for ops that condition worse; say why where it is used. */
  slack?: number;
  /** float64 values of the outputs, from float64 values of the inputs. Default: the op itself in float64. */
  reference?: (...inputs: Float64Array[]) => ArrayLike<number>[] | ArrayLike<number>;
  /** Default true. */
  differentiable?: boolean;
  /** Default 'cpu'. */
  device?: string;
}

type Outcome = Tensor | readonly Tensor[];

function asList(outcome: Outcome): readonly Tensor[] {
  return isTensor(outcome) ? [outcome] : outcome;
}

/** Checks `op` on the samples; throws (through expect) on the first disagreement. */
export function checkOp(
  op: (...inputs: Tensor[]) => Outcome,
  samples: readonly Sample[],
  options: CheckOptions = {},
): void {
  const { dtypes = floatingDTypes, slack = 1, differentiable = true, device = 'cpu' } = options;
  for (const dtype of dtypes) {
    const inputs = samples.map(({ shape, values }) => tensor(Float64Array.from(values), { shape, dtype, device }));
    // What the dtype stores, so that rounding the inputs is not counted as an error of the op.
    const stored = inputs.map((x) => Float64Array.from(x.dataSync()));
    const wide = stored.map((values, i) => tensor(values, { shape: samples[i]!.shape, dtype: 'float64', device }));
    const got = asList(op(...inputs)).map((y) => y.dataSync());
    let expected: ArrayLike<number>[];
    if (options.reference) {
      const result = options.reference(...stored);
      expected =
        Array.isArray(result) && typeof result[0] !== 'number'
          ? (result as ArrayLike<number>[])
          : [result as ArrayLike<number>];
    } else {
      expected = asList(op(...wide)).map((y) => y.dataSync());
    }
    for (const [i, values] of got.entries()) {
      const error = relativeError(values, expected[i]!);
      if (!(error <= slack * tolerances[dtype])) {
        throw new Error(`output ${i} in ${dtype}: relative error ${error}, allowed ${slack * tolerances[dtype]}`);
      }
    }
    dispose([inputs, wide]);
  }
  if (differentiable) {
    gradcheck(
      op,
      samples.map(({ shape, values }) => tensor(Float64Array.from(values), { shape, dtype: 'float64', device })),
      options,
    );
  }
}
