// The CUDA programs of the tests: whether they can be built here, building them, running them on the emulator or a GPU.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { root } from '../../support/build';
import { cudartFolder } from './cudart';

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

const emulator = join(root, 'build', 'cuda-emulated');
/** Where `gpu:check --prepare` puts a copy of CUDA's runtime library. */
export const carriedRuntime = join(root, 'build', 'cuda-runtime');

/** A program of build/cuda-checks, and the environment in which it finds the runtime. */
export function program(name: string, runtime: Runtime): { path: string; env: Record<string, string> } {
  const folder = runtime === 'emulated' ? emulator : cudartFolder({ nvcc, carried: carriedRuntime, emulator });
  const libraries = [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(delimiter);
  return {
    path: join(root, 'build', 'cuda-checks', name),
    env: libraries ? { LD_LIBRARY_PATH: libraries } : {},
  };
}

/** What such a program prints. */
export function parseLines<Line>(stdout: string): Line[] {
  return stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Line);
}

/** Runs a program of build/cuda-checks; its lines of JSON. */
export function run<Line>(
  name: string,
  args: readonly string[] = [],
  { runtime = 'emulated', env = {} }: { runtime?: Runtime; env?: Record<string, string> } = {},
): Line[] {
  const found = program(name, runtime);
  const { status, signal, stdout, stderr, error } = spawnSync(found.path, args, {
    encoding: 'utf8',
    env: { ...process.env, ...found.env, ...env },
    maxBuffer: 64 << 20,
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${name} ${args.join(' ')} ended with ${signal ?? status}: ${stderr}`);
  return parseLines(stdout);
}
