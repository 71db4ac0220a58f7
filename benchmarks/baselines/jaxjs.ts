// jax-js (@jax-js/jax) as a peer, on its WebAssembly backend: what it has for machines without a browser. It is found where
// `require` finds it, and never installed by us.
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

/** An operation consumes its arguments; `ref` lends one out once more. */
export interface JaxArray {
  readonly ref: JaxArray;
  readonly shape: readonly number[];
  dispose(): void;
  data(): Promise<Float32Array>;
  dataSync(): Float32Array;
  blockUntilReady(): Promise<JaxArray>;
  reshape(shape: readonly number[]): JaxArray;
  sum(): JaxArray;
}

// biome-ignore lint/suspicious/noExplicitAny: functions over nestings of arrays, of which each caller knows its own
type JaxFunction = (...args: any[]) => any;

export interface JaxModule {
  defaultDevice(device: string): string;
  jit<F extends JaxFunction>(f: F): F & { dispose?(): void };
  grad(f: JaxFunction): JaxFunction;
  jvp: JaxFunction;
  vjp: JaxFunction;
  numpy: Record<string, (...args: unknown[]) => JaxArray> & { array(values: Float32Array | number[]): JaxArray };
  nn: Record<string, JaxFunction>;
  lax: Record<string, JaxFunction>;
}

export interface JaxJs {
  jax: JaxModule;
  version: string;
  device: string;
}

/** The package, its version and the backend in use, or null where it is not installed. */
export async function findJaxJs(): Promise<JaxJs | null> {
  const require = createRequire(join(process.cwd(), 'package.json'));
  const device = 'wasm';
  try {
    const jax = require('@jax-js/jax') as JaxModule & { init(...devices: string[]): Promise<string[]> };
    if (!(await jax.init(device)).includes(device)) return null;
    jax.defaultDevice(device);
    const manifest = join(dirname(require.resolve('@jax-js/jax')), '..', 'package.json'); // not among its exports
    return { jax, version: (require(manifest) as { version: string }).version, device };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return null;
    throw error;
  }
}
