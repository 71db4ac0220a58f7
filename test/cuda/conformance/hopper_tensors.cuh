// Tensor maps for the kernels of hopper_tma.cuh and of the tests, and the swizzle by its definition.
#pragma once

#include <cstdlib>

#include "cuda/hopper/tensor_map.h"

namespace hopper_kernels {

/** A row-major tensor, its contiguous dimension first. */
template <class T, int Rank>
CUtensorMap tensorMap(const T* data, const int (&sizes)[Rank], const int (&box)[Rank], int swizzleBytes) {
  flowmap::cuda::hopper::TensorShape<Rank> shape;
  uint64_t stride = 1;
  for (int d = 0; d < Rank; ++d) {
    shape.sizes[d] = uint64_t(sizes[d]), shape.box[d] = uint32_t(box[d]), shape.strides[d] = stride;
    // Strides are multiples of 16 bytes.
    stride *= shape.sizes[d];
    if (d == 0) stride = (stride * sizeof(T) + 15) / 16 * 16 / sizeof(T);
  }
  CUtensorMap map;
  if (flowmap::cuda::hopper::encodeTensorMap(map, data, shape, swizzleBytes) != cudaSuccess) std::abort();
  return map;
}

/** Where byte `at` of a box lies: the 16-byte pieces of row r of the swizzle's width are exchanged by r (of 128 bytes,
 * for narrower ones r/2 or r/4). */
inline __host__ __device__ int swizzledByte(int at, int width) {
  if (width == 0) return at;
  const int piece = at / 16 % (width / 16), line = at / 128 % (width / 16);
  return at - piece * 16 + (piece ^ line) * 16;
}

}  // namespace hopper_kernels
