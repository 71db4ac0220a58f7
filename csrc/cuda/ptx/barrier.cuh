// Named barriers of a block, 1 to 15 (0 is __syncthreads). Threads is a multiple of 32 and counts those that arrive and
// those that wait.
#pragma once

namespace flowmap::cuda::ptx {

template <int Threads>
__device__ __forceinline__ void barrierSync(int barrier) {
  static_assert(Threads % 32 == 0);
  asm volatile("bar.sync %0, %1;\n" ::"r"(barrier), "n"(Threads) : "memory");
}

/** Tells those that wait in barrierSync, and goes on. */
template <int Threads>
__device__ __forceinline__ void barrierArrive(int barrier) {
  static_assert(Threads % 32 == 0);
  asm volatile("bar.arrive %0, %1;\n" ::"r"(barrier), "n"(Threads) : "memory");
}

}  // namespace flowmap::cuda::ptx
