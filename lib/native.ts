// Finds and loads the native addon, once per realm: a build of this clone, else the prebuild of the published package.
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import type { NativeAddon } from '../typings/native';
import { LoadError, makeNativeError } from './errors';
import { packageRoot as root } from './packageRoot';

interface NodeGypBuild {
  /** The addon's path, by the platform, the C library and the rules shared by all packages with prebuilds. */
  path(folder: string): string;
}

function find(): string {
  // For the project's own checks: a build from another folder (scripts/sanitize.sh).
  if (process.env.FLOWMAP_ADDON) return process.env.FLOWMAP_ADDON;
  try {
    return (require('node-gyp-build') as NodeGypBuild).path(root);
  } catch (cause) {
    const prebuilds = join('prebuilds', `${process.platform}-${process.arch}`);
    const found = (folder: string) =>
      `${folder}: ${existsSync(join(root, folder)) ? 'nothing that fits' : 'not there'}`;
    const advice = existsSync(join(root, 'CMakeLists.txt'))
      ? "In this clone, 'npm run setup' builds it"
      : `This version of flowmap has no build for ${platform()}; clone its repository and run 'npm run setup' there`;
    const tried = [join('build', 'Release'), prebuilds].map(found).join('; ');
    throw new LoadError('flowmap', `no native addon for ${platform()} (${tried}). ${advice}`, { cause });
  }
}

function platform(): string {
  const { header } = process.report.getReport() as { header: { glibcVersionRuntime?: string } };
  const libc = header.glibcVersionRuntime ? ` with glibc ${header.glibcVersionRuntime}` : '';
  return `${process.platform}-${process.arch}${libc}, Node ${process.version}`;
}

function load(): NativeAddon {
  const path = find();
  // Read by the OpenMP library, whose threads oneDNN uses for some products, as it is loaded. How long a waiting thread
  // spins before it sleeps: some tens of microseconds. Its default, hundreds, fights with the kernels' own threads.
  process.env.GOMP_SPINCOUNT ??= '2000';
  try {
    return require(path) as NativeAddon;
  } catch (cause) {
    const reason = (cause as Error).message;
    const advice = path.startsWith(join(root, 'build'))
      ? "Build it again: 'npm run build'"
      : 'A library or symbol it needs is missing or too old on this machine';
    const name = path.startsWith(root) ? relative(root, path) : path;
    throw new LoadError('flowmap', `${name} could not be loaded on ${platform()}: ${reason}. ${advice}`, { cause });
  }
}

/** @internal The addon. Only `lib/ops`, `lib/tensor.ts`, `lib/memory.ts`, `lib/device.ts` and `lib/timing.ts` call it. */
export const native: NativeAddon = load();
native.setErrorFactory(makeNativeError);
// `process.exit` and uncaught errors end the process without ending its environment, so workers have to stop here: the
// libraries that they are in the middle of are about to be torn down.
if (isMainThread) process.once('exit', () => native.stopDevicesForExit());
// Here, where it can be said, not on the worker that first needs the number: FLOWMAP_THREADS may be wrong.
native.threads();
