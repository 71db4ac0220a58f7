// Tensor maps, which TMA goes by: made on the host by a function of the driver, found by name, so that nothing is
// linked to the driver.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

namespace flowmap::cuda::hopper {

/** A box, and the tensor of 1 to 5 dimensions it is taken from; the first is contiguous. */
template <int Rank>
struct TensorShape {
  static_assert(Rank >= 1 && Rank <= 5);
  uint64_t sizes[Rank];
  uint64_t strides[Rank];  // elements; of the first dimension it is 1
  uint32_t box[Rank];      // at most 256 each
};

template <class T>
constexpr CUtensorMapDataType tensorMapType();
template <>
constexpr CUtensorMapDataType tensorMapType<float>() {
  return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
}
template <>
constexpr CUtensorMapDataType tensorMapType<__half>() {
  return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
}
template <>
constexpr CUtensorMapDataType tensorMapType<__nv_bfloat16>() {
  return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

/** Bytes of a swizzled row of a box in shared memory; 0 without swizzling. */
constexpr CUtensorMapSwizzle tensorMapSwizzle(int bytes) {
  return bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
         : bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
         : bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                       : CU_TENSOR_MAP_SWIZZLE_NONE;
}

/** The driver's function, looked up once; without one `error` says why. */
struct TensorMapEncoder {
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;
  cudaError_t error;

  TensorMapEncoder() {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
    if (error == cudaSuccess && (found != cudaDriverEntryPointSuccess || !function)) error = cudaErrorNotSupported;
    if (error == cudaSuccess) encode = reinterpret_cast<decltype(encode)>(function);
  }
};

/** Fails where the driver has no tensor maps, or its rules are broken: 16-byte aligned data and strides, rows of a box
 * a multiple of 16 bytes and no wider than the swizzle. */
template <class T, int Rank>
cudaError_t encodeTensorMap(CUtensorMap& map, const T* data, const TensorShape<Rank>& shape, int swizzleBytes) {
  static const TensorMapEncoder driver;
  if (driver.error != cudaSuccess) return driver.error;
  cuuint64_t sizes[Rank], strides[Rank];
  cuuint32_t box[Rank], steps[Rank];
  for (int d = 0; d < Rank; ++d) {
    sizes[d] = shape.sizes[d], box[d] = shape.box[d], steps[d] = 1;
    if (d > 0) strides[d - 1] = shape.strides[d] * sizeof(T);
  }
  const CUresult result = driver.encode(&map, tensorMapType<T>(), Rank, const_cast<T*>(data), sizes, strides, box,
                                        steps, CU_TENSOR_MAP_INTERLEAVE_NONE, tensorMapSwizzle(swizzleBytes),
                                        CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace flowmap::cuda::hopper
