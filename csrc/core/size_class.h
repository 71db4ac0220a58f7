// The sizes that caching allocators keep blocks in.
#pragma once

#include <bit>
#include <cstddef>

namespace flowmap {

// Eight classes per power of two above 8 alignments: at most an eighth of a block is slack, and sizes that recur share
// a class. Never 0.
constexpr size_t sizeClass(size_t bytes, size_t alignment) {
  if (bytes <= 8 * alignment) return bytes == 0 ? alignment : (bytes + alignment - 1) / alignment * alignment;
  const size_t step = std::bit_floor(bytes - 1) / 8;
  return (bytes + step - 1) / step * step;
}

}  // namespace flowmap
