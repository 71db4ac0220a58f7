// Packed sequences as kernels meet them: which one a tile of rows belongs to, and where each lies. Their offsets are
// sound where checkOffsets (attention_checks.cu) found them so.
#pragma once

#include <cstdint>

#include "cuda/attention.h"

namespace flowmap::cuda {

// Rows [first, first + count) of a batch row, or of all packed sequences.
struct Span {
  int first, count;

  __device__ __forceinline__ int end() const { return first + count; }
};

// The last i in [0, count) for which begins(i) <= at, where begins does not decrease and begins(0) <= at. All lanes of
// a warp look together.
template <class Begins>
__device__ __forceinline__ int lastBeginning(int count, int at, const Begins& begins) {
  const int lane = threadIdx.x % 32;
  int first = 0;
  while (count > 1) {
    const int step = (count + 31) / 32, tried = lane * step;
    const bool before = tried < count && begins(first + tried) <= at;
    const int last = 31 - __clz(static_cast<int>(__ballot_sync(0xffffffffu, before)));
    first += last * step;
    count = min(step, count - last * step);
  }
  return first;
}

struct PackedSequences {
  const int32_t *queryOffsets, *keyOffsets;  // null: not packed
  const int32_t* sound;                      // 0 where offsets are not
  int count;

  explicit PackedSequences(const AttentionCall& call)
      : queryOffsets(call.in.queryOffsets.data<const int32_t>()),
        keyOffsets(call.in.keyOffsets.data<const int32_t>()),
        sound(call.sound),
        count(static_cast<int>(call.geometry.sequences)) {}

  __host__ __device__ bool absent() const { return queryOffsets == nullptr; }
  // Tiles that cover `tokens` rows, where every sequence has tiles of its own.
  __host__ __device__ int64_t tilesOf(int64_t tokens, int tileRows) const {
    if (absent() || tokens == 0) return (tokens + tileRows - 1) / tileRows;
    return tokens / tileRows + (count > 0 ? count : 1);
  }

  // Whose tile it is, by the offsets of the side that has the tiles: sequence i begins at tile
  // offsets[i] / tileRows + i, which leaves room for all its rows. -> the tile's number within the sequence
  __device__ __forceinline__ int tileWithin(const int32_t* offsets, int tile, int tileRows, int& sequence) const {
    sequence = lastBeginning(count, tile, [&](int i) { return offsets[i] / tileRows + i; });
    return tile - offsets[sequence] / tileRows - sequence;
  }
  // Whose row it is.
  __device__ __forceinline__ int sequenceOf(const int32_t* offsets, int row) const {
    return lastBeginning(count, row, [&](int i) { return offsets[i]; });
  }
  static __device__ __forceinline__ Span spanOf(const int32_t* offsets, int sequence) {
    return {offsets[sequence], offsets[sequence + 1] - offsets[sequence]};
  }
};

}  // namespace flowmap::cuda
