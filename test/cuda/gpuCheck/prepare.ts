// gpu:check --prepare: builds, where compilers are, all that gpu:check runs on a machine that has none.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeNote } from '../../../benchmarks/support/source';
import { build, root } from '../../support/build';
import { cudartFolder } from '../support/cudart';
import { carriedRuntime, nvcc } from '../support/programs';
import { travels, whatIsMissing } from './needs';

function buildCuda(): void {
  const cache = readFileSync(join(root, 'build', 'CMakeCache.txt'), 'utf8');
  const before = /^FLOWMAP_CUDA_TARGETS:\w+=(.*)$/m.exec(cache)?.[1]?.split(';') ?? [];
  const targets = [...new Set([...before, '80', '90a'])].filter(Boolean);
  const cmake = (...args: string[]) => execFileSync('cmake', args, { cwd: root, stdio: ['ignore', 2, 2] });
  cmake(`-DFLOWMAP_CUDA_TARGETS=${targets.join(';')}`, 'build');
  cmake('--build', 'build', '--config', 'Release');
  for (const target of ['simt_cudart', 'simt_cublas', 'cuda_conformance']) build(target);
}

/** The exit status. */
export function prepare(): number {
  if (!nvcc) {
    console.error('gpu:check --prepare needs nvcc 13, and a build (npm run build) that found it');
    return 1;
  }
  buildCuda();
  const emulator = join(root, 'build', 'cuda-emulated');
  const runtime = cudartFolder({ nvcc, carried: carriedRuntime, emulator });
  if (runtime && runtime !== carriedRuntime) {
    mkdirSync(carriedRuntime, { recursive: true });
    copyFileSync(join(runtime, 'libcudart.so.13'), join(carriedRuntime, 'libcudart.so.13'));
  }
  writeNote();
  const missing = whatIsMissing(true);
  if (missing.length > 0) {
    console.error(`gpu:check --prepare built everything but:\n  ${missing.join('\n  ')}`);
    return 1;
  }
  console.log('ready. What must travel: node, node_modules, the tracked files, and');
  console.log(`  ${travels.join(' ')}`);
  console.log('and there, beside the driver, cuBLAS 13 of a CUDA toolkit or of the Python package nvidia-cublas.');
  console.log('There, in the root of the tree: node scripts/gpu-check.mjs');
  return 0;
}
