// Finds and loads the native addon, once per realm.
import { join } from 'node:path';
import type { NativeAddon } from '../typings/native';
import { LoadError, makeNativeError } from './errors';

function load(): NativeAddon {
  try {
    return require('node-gyp-build')(join(__dirname, '..')) as NativeAddon;
  } catch (cause) {
    throw new LoadError('flowmap', `the native addon could not be loaded: ${(cause as Error).message}`, { cause });
  }
}

/** @internal The addon. Only `lib/ops`, `lib/tensor.ts` and `lib/memory.ts` call it. */
export const native: NativeAddon = load();
native.setErrorFactory(makeNativeError);
