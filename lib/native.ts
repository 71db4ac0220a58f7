// Finds and loads the native addon, once per realm.
import { join } from 'node:path';
import type { NativeAddon } from '../typings/native';
import { LoadError, makeNativeError } from './errors';

function load(): NativeAddon {
  // Read by the OpenMP library as it is loaded. Threads that wait by spinning, its default, fight for cores with whatever
  // else runs: beside other work a sum of 10⁶ elements took 10 ms so, and 0.13 ms where waiting threads sleep.
  process.env.OMP_WAIT_POLICY ??= 'passive';
  try {
    return require('node-gyp-build')(join(__dirname, '..')) as NativeAddon;
  } catch (cause) {
    throw new LoadError('flowmap', `the native addon could not be loaded: ${(cause as Error).message}`, { cause });
  }
}

/** @internal The addon. Only `lib/ops`, `lib/tensor.ts` and `lib/memory.ts` call it. */
export const native: NativeAddon = load();
native.setErrorFactory(makeNativeError);
