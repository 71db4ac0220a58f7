// Random tensors. A generator is a seed and a position in the sequence it selects; both are numbers, so its state goes
// into a checkpoint and a resumed run draws what an uninterrupted one would.
import type { TensorOptions } from './create';
import type { DType } from './dtype';
import { ArgumentError } from './errors';
import { native } from './native';
import { isRecording, refuseWhileRecording, vary } from './recording';
import { Tensor } from './tensor';

/** All there is to a {@link Generator}: JSON-serialisable. */
export interface GeneratorState {
  seed: number;
  offset: number;
}

const drawnOnce = 'replays would repeat these numbers; draw them before the step and pass them as a tensor';

function checkWhole(argument: string, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new ArgumentError('Generator', `${argument} must be an integer in [0, 2^53), got ${value}`);
  }
  return value;
}

/** A source of random numbers: Philox4x32-10, counter-based, the same on every device. */
export class Generator {
  private seed: number;
  private offset: number;

  constructor(seed = 0) {
    this.seed = checkWhole('seed', seed);
    this.offset = 0;
  }

  /** Starts the sequence of `seed` from its beginning. */
  manualSeed(seed: number): this {
    refuseWhileRecording('Generator', 'a replay would not seed it again; do it before the step');
    this.seed = checkWhole('seed', seed);
    this.offset = 0;
    return this;
  }

  get state(): GeneratorState {
    return { seed: this.seed, offset: this.offset };
  }

  set state({ seed, offset }: GeneratorState) {
    refuseWhileRecording('Generator', 'a replay would not set its state again; do it before the step');
    this.seed = checkWhole('seed', seed);
    this.offset = checkWhole('offset', offset);
  }

  /** @internal Takes the next blocks of the sequence for `n` elements; gives where they begin. */
  _take(n: number, dtype: DType): [seed: number, offset: number] {
    const { seed, offset } = this;
    this.offset += native.randomBlocks(n, dtype);
    return [seed, offset];
  }

  /** `n` numbers uniform on [0, 1), in double precision, on the host and at once: for schedules. */
  uniform(n: number): number[] {
    refuseWhileRecording('Generator.uniform', drawnOnce);
    return native.hostUniform(...this._take(n, 'float64'), n);
  }

  /** `n` standard normal numbers, likewise. */
  normal(n: number): number[] {
    refuseWhileRecording('Generator.normal', drawnOnce);
    return native.hostNormal(...this._take(n, 'float64'), n);
  }
}

/** What random tensors are drawn from where no generator is given. */
export const defaultGenerator = new Generator(0);

/** Restarts the {@link defaultGenerator} with `seed`. */
export function manualSeed(seed: number): void {
  defaultGenerator.manualSeed(seed);
}

export interface RandomOptions extends TensorOptions {
  /** Default: {@link defaultGenerator}. */
  generator?: Generator;
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Standard normal. -> [...shape] */
export function randn(shape: readonly number[], options: RandomOptions = {}): Tensor {
  const { dtype = 'float32', device = 'cpu', generator = defaultGenerator } = options;
  return draw(generator, sizeOf(shape), dtype, (seed, offset) =>
    native.randomNormal(device, shape, dtype, seed, offset),
  );
}

/** Uniform on [low, high), by default [0, 1). -> [...shape] */
export function rand(shape: readonly number[], options: RandomOptions & { low?: number; high?: number } = {}): Tensor {
  const { dtype = 'float32', device = 'cpu', generator = defaultGenerator, low = 0, high = 1 } = options;
  return draw(generator, sizeOf(shape), dtype, (seed, offset) =>
    native.randomUniform(device, shape, dtype, seed, offset, low, high),
  );
}

/** Integers uniform on [low, high), int32. -> [...shape] */
export function randint(
  low: number,
  high: number,
  shape: readonly number[],
  options: Omit<RandomOptions, 'dtype'> = {},
): Tensor {
  const { device = 'cpu', generator = defaultGenerator } = options;
  return draw(generator, sizeOf(shape), 'int32', (seed, offset) =>
    native.randomIntegers(device, shape, seed, offset, low, high),
  );
}

/** A random permutation of 0 … n − 1, int32. -> [n] */
export function randperm(n: number, options: Omit<RandomOptions, 'dtype'> = {}): Tensor {
  const { device = 'cpu', generator = defaultGenerator } = options;
  return draw(generator, n, 'float64', (seed, offset) => native.randomPermutation(device, n, seed, offset));
}

// A refused draw leaves the generator where it was. One that is recorded takes its numbers when it is replayed.
function draw(generator: Generator, n: number, dtype: DType, run: (seed: number, offset: number) => number): Tensor {
  const before = generator.state;
  if (isRecording()) {
    const drawn = new Tensor(run(before.seed, before.offset));
    let last = before;
    vary({
      numbers: () => {
        last = generator.state;
        return generator._take(n, dtype);
      },
      undo: () => {
        generator.state = last;
      },
    });
    return drawn;
  }
  try {
    const [seed, offset] = Number.isSafeInteger(n) && n >= 0 ? generator._take(n, dtype) : [before.seed, before.offset];
    return new Tensor(run(seed, offset));
  } catch (error) {
    generator.state = before;
    throw error;
  }
}
