// ldmatrix (sm_75): a warp loads 8×8 tiles of 16-bit elements from shared memory into the fragments that mma takes.
// Lane 8t + i points to row i of tile t: 16 bytes, aligned. Lane l gets elements (l/4, 2(l%4)) and its right neighbour,
// of the transposed tile when Transposed. The place is a pointer or an address in the shared window.
#pragma once

#include "cuda/ptx/address.cuh"

namespace flowmap::cuda::ptx {

template <bool Transposed = false>
__device__ __forceinline__ void ldmatrix(uint32_t (&tile)[1], uint32_t row) {
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];\n" : "=r"(tile[0]) : "r"(row) : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];\n" : "=r"(tile[0]) : "r"(row) : "memory");
  }
}

template <bool Transposed = false>
__device__ __forceinline__ void ldmatrix(uint32_t (&tiles)[2], uint32_t row) {
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];\n"
                 : "=r"(tiles[0]), "=r"(tiles[1])
                 : "r"(row)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];\n"
                 : "=r"(tiles[0]), "=r"(tiles[1])
                 : "r"(row)
                 : "memory");
  }
}

template <bool Transposed = false>
__device__ __forceinline__ void ldmatrix(uint32_t (&tiles)[4], uint32_t row) {
  if constexpr (Transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(row)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(row)
                 : "memory");
  }
}

template <bool Transposed = false, int Count>
__device__ __forceinline__ void ldmatrix(uint32_t (&tiles)[Count], const void* row) {
  ldmatrix<Transposed>(tiles, sharedAddress(row));
}

/** Transposes one tile that a warp holds in registers. */
__device__ __forceinline__ uint32_t movmatrix(uint32_t tile) {
  uint32_t transposed;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;\n" : "=r"(transposed) : "r"(tile));
  return transposed;
}

}  // namespace flowmap::cuda::ptx
