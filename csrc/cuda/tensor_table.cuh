// Many tensors in one launch: their addresses and sizes are a parameter of the kernel, and every block has one chunk of
// one tensor. Nothing is copied or waited for; lists that do not fit take a launch more for every kCapacity tensors.
#pragma once

#include <array>
#include <cstdint>

#include "cuda/launch.cuh"

namespace flowmap::cuda {

constexpr int kTableBytes = 3840;  // of the 4 KiB that every device takes as parameters

// `kArrays` arrays per tensor, all of its size.
template <int kArrays>
struct TensorTable {
  static constexpr int kCapacity = (kTableBytes - 8) / (8 * kArrays + 12);
  void* data[kArrays][kCapacity];
  int64_t sizes[kCapacity];
  uint32_t firstChunks[kCapacity];
  int32_t count;
};

struct TableChunk {
  int tensor;
  int64_t begin, end;
};

// What this block has to do.
template <int64_t kChunk, int kArrays>
__device__ __forceinline__ TableChunk chunkOfBlock(const TensorTable<kArrays>& table) {
  int low = 0, high = table.count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (table.firstChunks[middle] <= blockIdx.x)
      low = middle;
    else
      high = middle - 1;
  }
  const int64_t begin = static_cast<int64_t>(blockIdx.x - table.firstChunks[low]) * kChunk;
  return {low, begin, min(begin + kChunk, table.sizes[low])};
}

// Collects tensors, and calls launch(table, grid) for every table that is full, and for the last at `finish`.
template <int64_t kChunk, int kArrays, class Launch>
class TensorTables {
  static_assert(sizeof(TensorTable<kArrays>) <= kTableBytes);

 public:
  explicit TensorTables(Launch launch) : launch_(launch) {}

  void add(int64_t size, const std::array<void*, kArrays>& arrays) {
    if (size == 0) return;
    if (table_.count == TensorTable<kArrays>::kCapacity) finish();
    for (int k = 0; k < kArrays; ++k) table_.data[k][table_.count] = arrays[static_cast<size_t>(k)];
    table_.sizes[table_.count] = size;
    table_.firstChunks[table_.count] = chunks_;
    ++table_.count;
    chunks_ += static_cast<uint32_t>((size + kChunk - 1) / kChunk);
  }

  void finish() {
    if (table_.count == 0) return;
    launch_(table_, Grid{dim3(chunks_)});
    table_.count = 0;
    chunks_ = 0;
  }

 private:
  Launch launch_;
  TensorTable<kArrays> table_{};
  uint32_t chunks_ = 0;
};

template <int64_t kChunk, int kArrays, class Launch>
TensorTables<kChunk, kArrays, Launch> tensorTables(Launch launch) {
  return TensorTables<kChunk, kArrays, Launch>(launch);
}

}  // namespace flowmap::cuda
