// stmatrix (sm_90): a warp stores 8×8 tiles of 16-bit elements from fragments to shared memory, as ldmatrix loads them.
// Lane 8t + i points to row i of tile t: 16 bytes, aligned. With Transposed the transposed tiles are stored.
#pragma once

#include "cuda/ptx/address.cuh"

namespace flowmap::cuda::ptx {

template <bool Transposed = false>
__device__ __forceinline__ void stmatrix(void* row, const uint32_t (&tiles)[4]) {
  if constexpr (Transposed) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(sharedAddress(row)),
                 "r"(tiles[0]), "r"(tiles[1]), "r"(tiles[2]), "r"(tiles[3])
                 : "memory");
  } else {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(sharedAddress(row)),
                 "r"(tiles[0]), "r"(tiles[1]), "r"(tiles[2]), "r"(tiles[3])
                 : "memory");
  }
}

}  // namespace flowmap::cuda::ptx
