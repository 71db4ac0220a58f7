// Where blocks whose lifetimes are known beforehand lie in one piece of memory.
#pragma once

#include <cstddef>
#include <vector>

namespace flowmap {

// A block that is needed from the op numbered `first` to the one numbered `last`, both included.
struct Lifetime {
  size_t bytes = 0;
  size_t first = 0, last = 0;
};

struct MemoryPlan {
  std::vector<size_t> offsets;  // of each block, multiples of the alignment
  size_t bytes = 0;             // of the whole
};

// Blocks that live at the same time do not overlap. Goes through the ops in order and gives each new block the smallest
// gap it fits in, among equals the one nearest to the start, so that what has just been read is written next.
MemoryPlan planMemory(const std::vector<Lifetime>& blocks, size_t alignment);

}  // namespace flowmap
