// cp.async (sm_80): copies from global to shared memory that need no registers and are waited for in groups. What other
// threads copied is visible after their wait and a barrier.
#pragma once

#include "cuda/ptx/address.cuh"

namespace flowmap::cuda::ptx {

/** Copies Bytes (4, 8 or 16, both addresses multiples of it); 16 bytes bypass L1. */
template <int Bytes>
__device__ __forceinline__ void cpAsync(void* shared, const void* global) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(sharedAddress(shared)), "l"(global) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;\n" ::"r"(sharedAddress(shared)), "l"(global), "n"(Bytes)
                 : "memory");
  }
}

/** Copies the first `valid` bytes and fills the rest with zeros; with 0 nothing is read and any pointer will do. */
template <int Bytes>
__device__ __forceinline__ void cpAsyncZeroFill(void* shared, const void* global, uint32_t valid) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(sharedAddress(shared)), "l"(global), "r"(valid)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(sharedAddress(shared)), "l"(global),
                 "n"(Bytes), "r"(valid)
                 : "memory");
  }
}

/** Closes the group of the copies that this thread issued since the last commit. */
__device__ __forceinline__ void cpAsyncCommit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }

/** Waits until at most the Pending latest groups of this thread are under way. */
template <int Pending>
__device__ __forceinline__ void cpAsyncWait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending) : "memory");
}

/** Waits for all copies of this thread, committed or not. */
__device__ __forceinline__ void cpAsyncWaitAll() { asm volatile("cp.async.wait_all;\n" ::: "memory"); }

}  // namespace flowmap::cuda::ptx
