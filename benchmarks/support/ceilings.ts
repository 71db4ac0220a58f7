// What this machine can do at best, measured in the same run as what is compared with it.
import { copy, matmul, ones } from '../../lib';
import type { Subject } from './measure';

/** float32 matrix multiplication of n³: the arithmetic ceiling. */
export function gemmCeiling(n = 2048): Subject {
  const a = ones([n, n]);
  const b = ones([n, n]);
  return { name: `sgemm ${n}³`, run: () => matmul(a, b), flops: 2 * n ** 3 };
}

/** A copy far larger than the caches: the bandwidth ceiling. */
export function copyCeiling(elements = 2 ** 26): Subject {
  const x = ones([elements]);
  return { name: `copy ${(elements * 4) / 2 ** 20} MiB`, run: () => copy(x), bytes: 8 * elements };
}
