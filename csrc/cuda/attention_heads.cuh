// What the fused kernels of attention share: where the rows of heads lie, how many keys count, which queries a block
// has, and launches over more heads than a grid is high.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/attention.h"
#include "cuda/attention_sequences.cuh"
#include "cuda/launch.cuh"

namespace flowmap::cuda {

struct FusedHeads {
  const int32_t* keyLengths;  // null: all keys
  PackedSequences packed;
  int64_t queryBatch, queryHead, queryRow, keyBatch, keyHead, keyRow;  // distances, in elements
  int firstHead, heads, group, queries, keys, dim;
  bool causal;
  float scale;

  explicit FusedHeads(const AttentionCall& call) : FusedHeads(call, call.geometry) {}

 private:
  FusedHeads(const AttentionCall& call, const AttentionGeometry& g)
      : keyLengths(call.in.keyLengths.data<const int32_t>()),
        packed(call),
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
};

// The tile of rows a block has: of one batch row, or of one sequence.
struct TilePlace {
  int batch, tile;     // the tile within its sequence
  Span queries, keys;  // those of the sequence
  int length;          // how many keys count; -1 where that is unknown

  // `offsets` are those of the side that has the tiles.
  __device__ __forceinline__ TilePlace(const FusedHeads& p, const int32_t* offsets, int batch, int block, int tileRows)
      : batch(batch), tile(block), queries{0, p.queries}, keys{0, p.keys}, length(p.keys) {
    if (!p.packed.absent()) {
      if (*p.packed.sound == 0) {
        length = -1;
        return;
      }
      int sequence;
      tile = p.packed.tileWithin(offsets, block, tileRows, sequence);
      queries = PackedSequences::spanOf(p.packed.queryOffsets, sequence);
      keys = PackedSequences::spanOf(p.packed.keyOffsets, sequence);
      length = keys.count;
    } else if (p.keyLengths != nullptr) {
      const int given = p.keyLengths[batch];
      length = given < 0 || given > p.keys ? -1 : given;
    }
  }
};

// Which queries a block has.
struct QueryPlace : TilePlace {
  int head, headOfBatch, firstQuery;  // head through the batch

  __device__ __forceinline__ QueryPlace(const FusedHeads& p, int tileRows)
      // Under a causal mask the longest first.
      : TilePlace(p, p.packed.queryOffsets, headAt(p) / p.heads,
                  p.causal ? static_cast<int>(gridDim.x - 1 - blockIdx.x) : static_cast<int>(blockIdx.x), tileRows),
        head(headAt(p)),
        headOfBatch(head % p.heads),
        firstQuery(tile * tileRows) {}

  __device__ __forceinline__ int64_t queryAt(const FusedHeads& p) const {
    return batch * p.queryBatch + headOfBatch * p.queryHead + (queries.first + firstQuery) * p.queryRow;
  }
  __device__ __forceinline__ int64_t keyAt(const FusedHeads& p) const {
    return batch * p.keyBatch + headOfBatch / p.group * p.keyHead + keys.first * p.keyRow;
  }
  // Of what there is one of for each query.
  __device__ __forceinline__ int64_t statisticsAt(const FusedHeads& p) const {
    return int64_t{head} * p.queries + queries.first + firstQuery;
  }

 private:
  static __device__ __forceinline__ int headAt(const FusedHeads& p) {
    return p.firstHead + static_cast<int>(blockIdx.y);
  }
};

// A block for Tile::kRows of the `tokens` of each head.
template <class Tile, class Params>
void launchHeads(const Runtime& runtime, void (*kernel)(Params), int bytes, Params p, int tokens, int64_t heads) {
  if (tokens == 0) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes), "cudaFuncSetAttribute");
  constexpr int64_t kMost = 65535;
  const auto blocks = static_cast<unsigned>(p.packed.tilesOf(tokens, Tile::kRows));
  for (int64_t first = 0; first < heads; first += kMost) {
    p.firstHead = static_cast<int>(first);
    const dim3 grid(blocks, static_cast<unsigned>(std::min(kMost, heads - first)));
    launchKernel(runtime, kernel, Grid{grid, dim3(Tile::kThreads), static_cast<size_t>(bytes)}, p);
  }
}

}  // namespace flowmap::cuda
