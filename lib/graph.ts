// A step that is recorded once and replayed from then on: the device repeats its work without JavaScript doing its own.
import { ArgumentError, AutogradError, DeviceError, DisposedError, DTypeError, ShapeError } from './errors';
import { tidy, witness } from './memory';
import { native } from './native';
import { record, type Varying, withNumbers } from './recording';
import { isTensor, Tensor } from './tensor';
import { leaves, mapTree } from './tree';

const op = 'captureGraph';

/** What {@link captureGraph} makes of a step. */
export interface CapturedStep<A extends readonly Tensor[], R> {
  /** Runs the step: the first time as it is, the second time by recording it, from then on by replaying that. */
  (...tensors: A): R;
  /** Whether there is a recording. */
  readonly captured: boolean;
  /** Frees the recording and its memory. The step cannot be called any more. */
  dispose(): void;
  [Symbol.dispose](): void;
}

interface Recorded {
  id: number;
  sources: Varying[];
  /** What the step returned: `outputs`, of which each replay gives copies, `inputs`, and anything else. */
  result: unknown;
  outputs: readonly Tensor[];
  inputs: readonly Tensor[];
}

let running = false;

/** What all calls of a step have in common. */
interface Signature {
  dtype: string;
  text: string;
}

const signatureOf = ({ dtype, shape }: Tensor): Signature => ({ dtype, text: `${dtype}[${shape.join(', ')}]` });

function checkArguments(args: readonly unknown[], device: string | null): asserts args is Tensor[] {
  for (const [i, x] of args.entries()) {
    if (!isTensor(x)) throw new ArgumentError(op, `argument ${i + 1} must be a tensor, got ${typeof x}`);
    if (x._traced) {
      throw new AutogradError(
        op,
        `argument ${i + 1} is traced by a gradient or derivative, which a recording cannot be part of; ` +
          'take gradients inside the step',
      );
    }
    if (x.disposed) throw new DisposedError(op, `argument ${i + 1} must be a live tensor, got one that was disposed`);
    if (device !== null && x.device !== device) {
      throw new DeviceError(op, `argument ${i + 1} must be on ${device}, got a tensor on ${x.device}`);
    }
  }
}

function checkSignatures(args: readonly Tensor[], expected: readonly Signature[]): void {
  if (args.length !== expected.length) {
    throw new ArgumentError(op, `the step takes ${expected.length} tensors, as in the first call, got ${args.length}`);
  }
  for (const [i, x] of args.entries()) {
    const [wanted, given] = [expected[i]!, signatureOf(x)];
    if (given.text === wanted.text) continue;
    const detail = `argument ${i + 1} must be ${wanted.text}, as in the first call, got ${given.text}`;
    throw given.dtype === wanted.dtype ? new ShapeError(op, detail) : new DTypeError(op, detail);
  }
}

/**
 * A step that costs JavaScript next to nothing from the third call on. The first call runs `fn` as it is; the second one
 * records the device's work (on the GPU as CUDA graphs, on the CPU as its operations in memory planned for all of them) and
 * runs the recording; later calls replay it, with the same bits.
 *
 * `fn` takes and gives tensors (it gives any nesting of arrays, maps and plain objects), and its results are the caller's.
 * Tensors it reads or changes besides, such as parameters and the state of an optimiser, are those of the first recording
 * in every replay. Draws from generators, optimisers' `lr` and step count move on as in `fn` itself. Everything else that
 * JavaScript computes in `fn` is done once and stays as it was: numbers, decisions, values of `tensor([...])`.
 *
 * While a step is recorded nothing is computed, so reading a tensor or waiting for the device throws, and so does what a
 * replay would not repeat: numbers drawn on the host, operations on another device. Memory of the recording, as much as one
 * step needs, is held until `dispose`. A tensor that `fn` makes and keeps aside shows the values of the latest replay.
 *
 * @param options `device`, where `fn` takes no tensors; otherwise the first one says it
 * @throws ShapeError, DTypeError, ArgumentError, DeviceError if the arguments are not like those of the first call
 */
export function captureGraph<A extends readonly Tensor[], R>(
  fn: (...tensors: A) => R,
  options: { device?: string } = {},
): CapturedStep<A, R> {
  if (typeof fn !== 'function') throw new ArgumentError(op, `fn must be a function, got ${typeof fn}`);
  let device = options.device === undefined ? null : native.graphDevice(options.device);
  let expected: Signature[] | null = null;
  let disposed = false;
  let recorded: Recorded | null = null;

  const run = (...args: unknown[]): R => {
    if (disposed) throw new DisposedError(op, 'the step has been disposed');
    if (running) throw new ArgumentError(op, 'a step cannot be called inside another');
    checkArguments(args, device);
    if (device === null) {
      if (args.length === 0) throw new ArgumentError(op, 'a step without arguments needs the option device');
      device = native.graphDevice(args[0]!.device);
      checkArguments(args, device);
    }
    if (expected) checkSignatures(args, expected);
    running = true;
    try {
      if (!expected) {
        const result = tidy(() => fn(...(args as unknown as A)));
        expected = args.map(signatureOf);
        return result;
      }
      if (!recorded) {
        recorded = recordStep(fn as unknown as (...tensors: Tensor[]) => unknown, device, args);
        native.graphWatch(step, recorded.id); // for steps that are dropped without dispose
      }
      return replay(recorded, args) as R;
    } finally {
      running = false;
    }
  };
  const dispose = () => {
    if (running) throw new ArgumentError(op, 'a step cannot be disposed while it runs');
    disposed = true;
    if (recorded) native.graphDispose(recorded.id);
    recorded = null;
  };
  const step: CapturedStep<A, R> = Object.defineProperties(run, {
    captured: { get: () => recorded !== null },
    dispose: { value: dispose },
    [Symbol.dispose]: { value: dispose },
  }) as unknown as CapturedStep<A, R>;
  return step;
}

function recordStep(fn: (...tensors: Tensor[]) => unknown, device: string, args: readonly Tensor[]): Recorded {
  const sources: Varying[] = [];
  const made = new Set<Tensor>();
  const [id, ...handles] = native.graphBegin(
    device,
    args.map((x) => x._handle),
  );
  try {
    let recorded: Recorded | null = null;
    // The scope ends with the handles of the recording's inputs and results: it holds their memory itself.
    tidy(() => {
      const inputs = handles.map((handle) => new Tensor(handle));
      const result = record(sources, () => witness(made, () => tidy(() => fn(...inputs))));
      const owners = [...leaves(result)].map((x) => x._primal());
      const outputs = [...new Set(owners.filter((x) => made.has(x)))];
      native.graphEnd(
        id,
        outputs.map((x) => x._handle),
      );
      recorded = { id, sources, result, outputs, inputs };
    });
    return recorded!;
  } catch (error) {
    native.graphDispose(id);
    throw error;
  }
}

function replay({ id, sources, result, outputs, inputs }: Recorded, args: readonly Tensor[]): unknown {
  const handles = withNumbers(sources, (numbers) =>
    native.graphReplay(
      id,
      args.map((x) => x._handle),
      numbers,
    ),
  );
  // The recording's own tensors stand for those of the call.
  const own = new Map<Tensor, Tensor>(inputs.map((x, i) => [x, args[i]!]));
  for (const [i, x] of outputs.entries()) own.set(x, new Tensor(handles[i]!));
  return mapTree(result, (x) => own.get(x._primal()) ?? x);
}
