// The CUDA programs of the tests: whether they can be built here, building them, running them on the emulator or a GPU.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { root } from '../../support/build';

export { build, root } from '../../support/build';

const cache = join(root, 'build', 'CMakeCache.txt');

function cached(variable: string): string | undefined {
  if (!existsSync(cache)) return undefined;
  const line = new RegExp(`^${variable}:\\w+=(.*)$`, 'm').exec(readFileSync(cache, 'utf8'));
  return line?.[1]?.endsWith('NOTFOUND') ? undefined : line?.[1];
}

/** nvcc's path, as the build found it. */
export const nvcc = cached('SIMT_NVCC');

export type Runtime = 'emulated' | 'gpu';

/** Runs a program of build/cuda-checks; its lines of JSON. */
export function run<Line>(
  program: string,
  args: readonly string[] = [],
  { runtime = 'emulated', env = {} }: { runtime?: Runtime; env?: Record<string, string> } = {},
): Line[] {
  const toolkit = join(dirname(nvcc!), '..', 'lib64');
  const folder = runtime === 'emulated' ? join(root, 'build', 'cuda-emulated') : toolkit;
  const libraries = [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter);
  const { status, signal, stdout, stderr, error } = spawnSync(join(root, 'build', 'cuda-checks', program), args, {
    encoding: 'utf8',
    env: { ...process.env, LD_LIBRARY_PATH: libraries, ...env },
    maxBuffer: 64 << 20,
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${signal ?? status}: ${stderr}`);
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);
}
