// cuTensorMapEncodeTiled, and the way to it: functions of the driver, by name.
#include <cuda.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "../options.h"
#include "../tensor_map.h"

using namespace flowmap::simt;

namespace {

bool elementOf(CUtensorMapDataType type, TensorMap& map) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      map.element = MapElement::f32, map.bytes = 4;
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
      map.element = MapElement::f16, map.bytes = 2;
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      map.element = MapElement::bf16, map.bytes = 2;
      return true;
    default:
      return false;
  }
}

/** By the driver's documentation; what it allows and the emulator lacks (other types, interleaving, strides of
 * elements, NaN outside) is refused too. */
CUresult encodeTiled(CUtensorMap* out, CUtensorMapDataType type, cuuint32_t rank, void* base, const cuuint64_t* sizes,
                     const cuuint64_t* strides, const cuuint32_t* box, const cuuint32_t* elementStrides,
                     CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                     CUtensorMapFloatOOBfill fill) {
  TensorMap map{};
  static constexpr uint16_t kWidths[] = {0, 32, 64, 128};
  if (!out || reinterpret_cast<uintptr_t>(out) % 64 || !elementOf(type, map)) return CUDA_ERROR_INVALID_VALUE;
  if (rank < 1 || rank > TensorMap::kMostRank || !base || reinterpret_cast<uintptr_t>(base) % 16) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE || swizzle > CU_TENSOR_MAP_SWIZZLE_128B) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) return CUDA_ERROR_INVALID_VALUE;
  map.magic = TensorMap::kMagic;
  map.base = reinterpret_cast<uint64_t>(base);
  map.rank = uint8_t(rank);
  map.swizzleWidth = kWidths[swizzle];
  for (cuuint32_t i = 0; i < rank; ++i) {
    const uint64_t stride = i ? strides[i - 1] : map.bytes;
    if (sizes[i] < 1 || sizes[i] > 1ull << 32 || box[i] < 1 || box[i] > 256) return CUDA_ERROR_INVALID_VALUE;
    if (elementStrides[i] != 1 || (i && (stride % 16 || stride >= 1ull << 40))) return CUDA_ERROR_INVALID_VALUE;
    map.sizes[i] = uint32_t(std::min<uint64_t>(sizes[i], 0xffffffffu));
    map.box[i] = uint16_t(box[i]);
    map.strides[i] = stride;
  }
  const uint32_t row = box[0] * map.bytes;
  if (row % 16 || (map.swizzleWidth && row > map.swizzleWidth)) return CUDA_ERROR_INVALID_VALUE;
  std::memset(out, 0, sizeof *out);
  std::memcpy(out, &map, sizeof map);
  return CUDA_SUCCESS;
}

}  // namespace

extern "C" cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                                        cudaDriverEntryPointQueryResult* result) {
  const bool known = std::strcmp(name, "cuTensorMapEncodeTiled") == 0 && options().sm >= 90;
  *function = known ? reinterpret_cast<void*>(encodeTiled) : nullptr;
  if (result) *result = known ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return cudaSuccess;
}
