// Swizzled shared memory: 16-byte pieces of a row change places with the row's number, the same for TMA and wgmma.
#pragma once

#include <cstdint>

namespace flowmap::simt {

/** `width` is the bytes of a swizzled row, 32, 64 or 128; 0 or 16 leaves addresses as they are. Bits 4… ^= bits 7…. */
inline uint64_t swizzled(uint64_t address, uint32_t width) {
  return width < 32 ? address : address ^ ((address >> 7 & (width / 16 - 1)) << 4);
}

}  // namespace flowmap::simt
