// jax-js as a peer, under its jit, on WebAssembly, which is what it has in Node. It is found where `require` finds it, and
// never installed by us. Its arrays are used up by what they are given to; `.ref` keeps them.
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { Tensor } from '../../lib';

interface NpArray {
  readonly ref: NpArray;
  mul(x: NpArray | number): NpArray;
  add(x: number): NpArray;
  reshape(shape: readonly number[]): NpArray;
  data(): Promise<Float32Array>;
  dispose(): void;
}

type ArrayFunction = (...x: NpArray[]) => NpArray;
type Jitted = ((...x: NpArray[]) => NpArray[]) & { dispose(): void };
type Pullback = ((cotangents: NpArray[]) => NpArray[]) & { dispose?(): void };

interface JaxJs {
  init(device: 'wasm'): Promise<string[]>;
  defaultDevice(device: 'wasm'): void;
  blockUntilReady(x: NpArray[]): Promise<NpArray[]>;
  jit(f: (...x: NpArray[]) => NpArray[]): Jitted;
  jvp(f: ArrayFunction, primals: NpArray[], tangents: NpArray[]): NpArray[];
  vjp(f: (...x: NpArray[]) => NpArray[], primals: NpArray[]): [NpArray[], Pullback];
  nn: { softmax(x: NpArray, axis: number): NpArray };
  numpy: {
    array(data: Float32Array): NpArray;
    matmul(a: NpArray, b: NpArray): NpArray;
    matrixTranspose(x: NpArray): NpArray;
    mean(x: NpArray, axis: number, options: { keepdims: boolean }): NpArray;
    reciprocal(x: NpArray): NpArray;
    sqrt(x: NpArray): NpArray;
    square(x: NpArray): NpArray;
  };
}

export interface FoundJaxJs {
  jax: JaxJs;
  version: string;
  /** WebAssembly runs on more than one thread where there are web workers. */
  threads: 'one thread' | 'web workers';
}

/** The package, ready to compute; or why it cannot be had. */
export async function findJaxJs(): Promise<FoundJaxJs | string> {
  const require = createRequire(join(process.cwd(), 'package.json'));
  try {
    const path = require.resolve('@jax-js/jax');
    const jax = require(path) as JaxJs;
    const { version } = require(join(path, '../../package.json')) as { version: string };
    if (!(await jax.init('wasm')).includes('wasm')) return 'no WebAssembly';
    jax.defaultDevice('wasm');
    return { jax, version, threads: 'Worker' in globalThis ? 'web workers' : 'one thread' };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    return code === 'MODULE_NOT_FOUND' ? 'not installed' : message.split('\n')[0]!;
  }
}

export interface JaxJsWork {
  case: 'attention' | 'norm';
  /** Primals, then as many tangents. */
  leaves: readonly string[];
  outputs: readonly string[];
  /** Names of the cotangents of all results; none without a backward, which gives `g` and a leaf's name. */
  cotangents?: readonly string[];
}

/** What is differentiated, as one would write it. */
function functionOf({ nn, numpy: np }: JaxJs, name: JaxJsWork['case'], width: number): ArrayFunction {
  if (name === 'norm') {
    return (x) => {
      const square = np.mean(np.square(x!.ref), -1, { keepdims: true });
      return x!.mul(np.reciprocal(np.sqrt(square.add(1e-6))));
    };
  }
  const scale = 1 / Math.sqrt(width);
  return (q, k, v) => np.matmul(nn.softmax(np.matmul(q!, np.matrixTranspose(k!)).mul(scale), -1), v!);
}

/** A case ready to run; compiled by its first run. */
export class JaxJsCase {
  private constructor(
    private readonly jax: JaxJs,
    private readonly run: Jitted,
    private readonly inputs: readonly NpArray[],
    private readonly names: readonly string[],
  ) {}

  static create(jax: JaxJs, work: JaxJsWork, tensors: ReadonlyMap<string, Tensor>): JaxJsCase {
    const { leaves, cotangents = [], outputs } = work;
    const count = leaves.length;
    const inputs = [...leaves, ...cotangents].map((name) => {
      const x = tensors.get(name)!;
      return jax.numpy.array(x.dataSync() as Float32Array).reshape(x.shape);
    });
    const f = functionOf(jax, work.case, tensors.get(leaves[0]!)!.shape.at(-1)!);
    const withTangent = (...x: NpArray[]) => jax.jvp(f, x.slice(0, count / 2), x.slice(count / 2));
    const both = (...x: NpArray[]) => {
      const [results, pull] = jax.vjp(withTangent, x.slice(0, count));
      const gradients = pull(x.slice(count));
      pull.dispose?.();
      return [...results, ...gradients];
    };
    const names = cotangents.length > 0 ? [...outputs, ...leaves.map((name) => `g${name}`)] : outputs;
    return new JaxJsCase(jax, jax.jit(cotangents.length > 0 ? both : withTangent), inputs, names);
  }

  async time(repeats: number): Promise<number> {
    const start = process.hrtime.bigint();
    for (let i = 0; i < repeats; i++) {
      for (const x of await this.jax.blockUntilReady(this.results())) x.dispose();
    }
    return Number(process.hrtime.bigint() - start) / 1e9 / repeats;
  }

  async outputs(): Promise<Map<string, Float32Array>> {
    const named = new Map<string, Float32Array>();
    for (const [i, x] of this.results().entries()) named.set(this.names[i]!, await x.data());
    return named;
  }

  async drop(): Promise<void> {
    for (const x of this.inputs) x.dispose();
    this.run.dispose();
  }

  private results(): NpArray[] {
    return this.run(...this.inputs.map((x) => x.ref));
  }
}
