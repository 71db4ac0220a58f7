// What the emulator keeps in the 128 bytes of a CUtensorMap.
#pragma once

#include <cstdint>

namespace flowmap::simt {

enum class MapElement : uint8_t { f32, f16, bf16 };

struct TensorMap {
  static constexpr uint64_t kMagic = 0x70616d726f736e74ull;
  static constexpr uint32_t kMostRank = 5;
  uint64_t magic;
  uint64_t base;
  uint64_t strides[kMostRank];  // bytes; the first is an element's
  uint32_t sizes[kMostRank];
  uint16_t box[kMostRank];
  uint16_t swizzleWidth;  // 0, 32, 64 or 128 bytes
  uint8_t rank, bytes;    // of an element
  MapElement element;
  bool fillsNan;
};
static_assert(sizeof(TensorMap) <= 128);

}  // namespace flowmap::simt
