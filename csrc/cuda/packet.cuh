// Several neighbouring elements that are read or written by one instruction of up to 16 bytes.
#pragma once

#include <cstdint>

namespace flowmap::cuda {

constexpr int kPacketBytes = 16;

template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Packet {
  T at[kCount];
};

// For moving elements without looking at them: 16 bytes have no integer type.
struct alignas(16) Bytes16 {
  uint64_t low, high;
};

// Calls body with a type of `width` bytes: 1, 2, 4, 8 or 16.
template <class Body>
void dispatchWidth(int width, Body body) {
  switch (width) {
    case 1:
      return body.template operator()<uint8_t>();
    case 2:
      return body.template operator()<uint16_t>();
    case 4:
      return body.template operator()<uint32_t>();
    case 8:
      return body.template operator()<uint64_t>();
    default:
      return body.template operator()<Bytes16>();
  }
}

// The most bytes, up to 16 and at least `itemBytes`, that divide every one of `bytes`: sizes, strides and offsets.
template <class... Bytes>
int commonWidth(int64_t itemBytes, Bytes... bytes) {
  int64_t width = kPacketBytes;
  while (width > itemBytes && ((bytes % width != 0) || ...)) width /= 2;
  return static_cast<int>(width);
}

}  // namespace flowmap::cuda
