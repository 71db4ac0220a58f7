// What the fused kernels of attention share: where the rows of heads lie, how many keys count, which queries a block
// has, and launches over more heads than a grid is high.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/attention_args.h"
#include "cuda/launch.cuh"

namespace flowmap::cuda {

struct FusedHeads {
  const int32_t* keyLengths;                                           // null: all keys
  int64_t queryBatch, queryHead, queryRow, keyBatch, keyHead, keyRow;  // distances, in elements
  int firstHead, heads, group, queries, keys, dim;
  bool causal;
  float scale;

  FusedHeads(const AttentionGeometry& g, const Tensor& lengths)
      : keyLengths(lengths ? lengths.data<const int32_t>() : nullptr),
        queryBatch(g.headOffset(1, 0, g.queryHeads, g.queries)),
        queryHead(g.headOffset(0, 1, g.queryHeads, g.queries)),
        queryRow(g.rowStride(g.queryHeads)),
        keyBatch(g.headOffset(1, 0, g.keyHeads, g.keys)),
        keyHead(g.headOffset(0, 1, g.keyHeads, g.keys)),
        keyRow(g.rowStride(g.keyHeads)),
        firstHead(0),
        heads(static_cast<int>(g.queryHeads)),
        group(static_cast<int>(g.queryHeads / g.keyHeads)),
        queries(static_cast<int>(g.queries)),
        keys(static_cast<int>(g.keys)),
        dim(static_cast<int>(g.dim)),
        causal(g.causal),
        scale(static_cast<float>(g.scale)) {}

  // How many keys count; -1 where the length given is none.
  __device__ __forceinline__ int keyLengthOf(int batch) const {
    if (keyLengths == nullptr) return keys;
    const int length = keyLengths[batch];
    return length < 0 || length > keys ? -1 : length;
  }
};

// Which queries a block has.
struct QueryPlace {
  int head, batch, headOfBatch, firstQuery;  // head through the batch

  __device__ __forceinline__ QueryPlace(const FusedHeads& p, int tileRows) {
    head = p.firstHead + static_cast<int>(blockIdx.y), batch = head / p.heads, headOfBatch = head % p.heads;
    // Under a causal mask the longest first.
    firstQuery = (p.causal ? static_cast<int>(gridDim.x - 1 - blockIdx.x) : static_cast<int>(blockIdx.x)) * tileRows;
  }
  __device__ __forceinline__ int64_t queryAt(const FusedHeads& p) const {
    return batch * p.queryBatch + headOfBatch * p.queryHead + firstQuery * p.queryRow;
  }
  __device__ __forceinline__ int64_t keyAt(const FusedHeads& p) const {
    return batch * p.keyBatch + headOfBatch / p.group * p.keyHead;
  }
};

// A block for Tile::kRows of the `tokens` of each head.
template <class Tile, class Params>
void launchHeads(const Runtime& runtime, void (*kernel)(Params), int bytes, Params p, int tokens, int64_t heads) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "cudaFuncSetAttribute");
  constexpr int64_t kMost = 65535;
  const auto blocks = static_cast<unsigned>((tokens + Tile::kRows - 1) / Tile::kRows);
  for (int64_t first = 0; first < heads; first += kMost) {
    p.firstHead = static_cast<int>(first);
    const dim3 grid(blocks, static_cast<unsigned>(std::min(kMost, heads - first)));
    launchKernel(runtime, kernel, Grid{grid, dim3(Tile::kThreads), static_cast<size_t>(bytes)}, p);
  }
}

}  // namespace flowmap::cuda
