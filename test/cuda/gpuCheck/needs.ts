// What gpu:check runs and cannot make: named before anything starts.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../../support/build';

/**
 * Of what is built, the parts that run where there is a GPU: the rest of a build folder is large. Of the emulator, what the
 * conformance programs run on.
 */
export const travels: readonly string[] = [
  'build/Release',
  'build/cuda-emulated/libcudart.so.13',
  'build/cuda-checks',
  'build/cuda-runtime',
  'build/gpu-check.json',
  'dist',
];

const built: readonly string[] = [
  'build/Release/flowmap.node',
  'build/Release/libflowmap_cuda.so',
  'build/cuda-checks/conformance',
  'build/cuda-checks/conformance_cluster',
  'build/cuda-checks/conformance_hopper',
  'build/cuda-emulated/libcudart.so.13',
];

export function whatIsMissing(emulated: boolean, folder = root): string[] {
  const needed = [
    'node_modules/jest',
    'node_modules/@swc/core',
    'node_modules/node-gyp-build',
    ...built,
    ...(emulated ? ['build/cuda-emulated/libflowmap_cuda.so', 'build/cuda-emulated/libcublasLt.so.13'] : []),
  ];
  return needed.filter((path) => !existsSync(join(folder, path)));
}
