// The third rung for Hopper (sm_90a): wgmma, by which a warpgroup (4 warps) multiplies a 64×16 matrix A by a 16×N
// matrix B of bfloat16 or float16 and adds to float32 accumulators. B is in shared memory, A there or in registers. It
// runs beside the threads: registers and operands are left alone until a wait for the group. wgmma_products.cuh has the
// products.
#pragma once

#include "cuda/hopper/tma.cuh"

namespace flowmap::cuda::hopper {

/** Which index of a matrix runs along contiguous memory: k, or that of rows of A or columns of B. */
enum class Major { k = 0, mn = 1 };

/**
 * A matrix in shared memory whose rows (of `Major`'s index) of SwizzleBytes lie below each other, in patterns of 8, as
 * TMA writes them; it starts at a multiple of 8 rows, and for k 16, 32, … further into a row. Major k: `stride` is the
 * bytes from 8 rows to the next 8. Major mn: `stride` those from 8 k to the next 8, `leading` those to the next columns
 * where there are more than a row has.
 */
template <int SwizzleBytes>
__device__ __forceinline__ uint64_t matrixDescriptor(uint32_t address, uint32_t leading, uint32_t stride) {
  static_assert(SwizzleBytes == 128 || SwizzleBytes == 64 || SwizzleBytes == 32);
  constexpr uint64_t kMode = SwizzleBytes == 128 ? 1 : SwizzleBytes == 64 ? 2 : 3;
  return uint64_t(address >> 4 & 0x3fff) | uint64_t(leading >> 4 & 0x3fff) << 16 |
         uint64_t(stride >> 4 & 0x3fff) << 32 | kMode << 62;
}

/** Before the first product, and after registers that the next one uses were accessed. */
__device__ __forceinline__ void wgmmaFence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }

__device__ __forceinline__ void wgmmaCommit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }

/** Until all but the last `Pending` groups are done. */
template <int Pending>
__device__ __forceinline__ void wgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(Pending) : "memory");
}

/** Keeps the compiler from moving what uses the registers across this place: before products and after waits. */
template <int Count>
__device__ __forceinline__ void holdRegisters(float (&values)[Count]) {
#pragma unroll
  for (int i = 0; i < Count; ++i) asm volatile("" : "+f"(values[i])::"memory");
}

/** The same for A in registers: it stays as it is until the wait. */
template <int Steps>
__device__ __forceinline__ void holdRegisters(uint32_t (&a)[Steps][4]) {
#pragma unroll
  for (int i = 0; i < 4 * Steps; ++i) asm volatile("" : "+r"(a[i / 4][i % 4])::"memory");
}

}  // namespace flowmap::cuda::hopper
