// What this machine can do at best, measured in the same run as what is compared with it.
import { copy, type DType, matmul, ones } from '../../lib';
import type { Subject } from './measure';

/** Matrix multiplication of n³: the arithmetic ceiling; on the CPU, of this size, by oneDNN and not by a kernel of ours (gemm_packed.cc). */
export function gemmCeiling(dtype: DType = 'float32', device = 'cpu', n = 2048): Subject {
  const a = ones([n, n], { dtype, device });
  const b = ones([n, n], { dtype, device });
  const name = dtype === 'float32' ? `sgemm ${n}³` : `gemm ${n}³ ${dtype}`;
  return { name, run: () => matmul(a, b), flops: 2 * n ** 3 };
}

/** A copy far larger than the caches: the bandwidth ceiling. */
export function copyCeiling(elements = 2 ** 26): Subject {
  const x = ones([elements]);
  return { name: `copy ${(elements * 4) / 2 ** 20} MiB`, run: () => copy(x), bytes: 8 * elements };
}
