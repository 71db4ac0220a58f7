// Lifetimes. V8's collector cannot free tensors inside a synchronous loop, so scopes and `dispose` do; the collector is
// only the safety net.
import { AutogradError } from './errors';
import { native } from './native';
import type { Tensor } from './tensor';
import { leaves } from './tree';

let scope: Tensor[] | null = null;
let witnessed: Set<Tensor> | null = null;

/** @internal Called for every tensor that owns a native handle. Whether a scope holds it from now on. */
export function track(tensor: Tensor): boolean {
  witnessed?.add(tensor);
  scope?.push(tensor);
  return scope !== null;
}

/** @internal Runs `fn`; all tensors with a handle of their own that are made meanwhile are added to `made`. */
export function witness<T>(made: Set<Tensor>, fn: () => T): T {
  const outer = witnessed;
  witnessed = made;
  try {
    return fn();
  } finally {
    witnessed = outer;
  }
}

// Handles on their way out: one call of the addon for many.
const leaving = new Float64Array(256);

/** Ends a scope's tensors but those in `escaping`, which go to the scope around it. */
function leave(inner: readonly Tensor[], escaping: ReadonlySet<Tensor> | null, outer: Tensor[] | null): void {
  let count = 0;
  for (const tensor of inner) {
    if (escaping?.has(tensor)) {
      if (outer) outer.push(tensor);
      else tensor._watch();
    } else if (tensor._leaveScope()) {
      leaving[count++] = tensor._handle;
      if (count < leaving.length) continue;
      native.disposeAll(leaving, count);
      count = 0;
    }
  }
  if (count > 0) native.disposeAll(leaving, count);
}

/**
 * Runs `fn` and disposes every tensor made inside it, except those in its result (a tensor, or any nesting of arrays,
 * maps and plain objects), those passed to {@link keep}, and those a gradient still needs, which go with that gradient.
 * Scopes nest. `fn` must be synchronous.
 */
export function tidy<T>(fn: () => T): T {
  const outer = scope;
  const inner: Tensor[] = [];
  scope = inner;
  let result: T;
  try {
    result = fn();
  } catch (error) {
    scope = outer;
    leave(inner, null, outer);
    throw error;
  }
  scope = outer;
  if (result instanceof Promise) {
    leave(inner, null, outer);
    throw new AutogradError('tidy', 'the function must be synchronous, got one that returns a promise');
  }
  if (inner.length > 0) {
    const escaping = new Set<Tensor>();
    for (const leaf of leaves(result)) leaf._collectOwners(escaping);
    leave(inner, escaping, outer);
  }
  return result;
}

/** Takes tensors out of the scopes that would dispose them; the caller disposes them. Returns its argument. */
export function keep<T>(tensors: T): T {
  for (const leaf of leaves(tensors)) leaf._keep();
  return tensors;
}

/** Disposes every tensor in any nesting of arrays, maps and plain objects. */
export function dispose(tensors: unknown): void {
  for (const leaf of leaves(tensors)) leaf.dispose();
}

/** What is alive. `tensors` counts this thread's handles; bytes are the device's, over all threads. */
export interface MemoryReport {
  /** Live tensors of this JavaScript thread. */
  tensors: number;
  /** Bytes handed out now. Work that is queued may still hold some: `await synchronize()` first for an exact figure. */
  bytes: number;
  /** Highest `bytes` since the last {@link resetPeakMemory}. */
  peakBytes: number;
  /** Bytes held for reuse. */
  cachedBytes: number;
  /** Bytes in use and cached together never exceed this. */
  limitBytes: number;
}

/** What is alive on `device`. Does not wait for queued work. */
export function memory(device = 'cpu'): MemoryReport {
  const [tensors, bytes, peakBytes, cachedBytes, limitBytes] = native.memory(device);
  return { tensors, bytes, peakBytes, cachedBytes, limitBytes };
}

/** Resolves when everything enqueued on `device` before the call has run. */
export async function synchronize(device = 'cpu'): Promise<void> {
  await native.synchronize(device);
}

/** Blocks until everything enqueued on `device` before the call has run. */
export function synchronizeSync(device = 'cpu'): void {
  native.synchronizeSync(device);
}

/** Starts `peakBytes` anew from what is in use. */
export function resetPeakMemory(device = 'cpu'): void {
  native.resetPeakMemory(device);
}

/** Gives memory held for reuse back to the system: at once on the CPU, at its turn in the queue on another device. */
export function emptyCache(device = 'cpu'): void {
  native.emptyCache(device);
}

/** Caps what `device` may take, in bytes; more throws `OutOfMemoryError` at the next read. Default: what the machine has. */
export function setMemoryLimit(bytes: number, device = 'cpu'): void {
  native.setMemoryLimit(device, bytes);
}
