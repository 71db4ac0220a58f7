// What the fused kernels of attention share: where the rows of heads lie, how many keys count, which queries a block
// has, and launches over more heads than a grid is high.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/attention.h"
#include "cuda/attention_normalize.cuh"
#include "cuda/attention_sequences.cuh"
#include "cuda/launch.cuh"

namespace flowmap::cuda {

// How far apart rows are, in rows.
struct HeadRows {
  int64_t batch, head, row;

  HeadRows(const AttentionGeometry& g, int64_t heads, int64_t tokens)
      : batch(g.headOffset(1, 0, heads, tokens) / g.dim),
        head(g.headOffset(0, 1, heads, tokens) / g.dim),
        row(g.rowStride(heads) / g.dim) {}

  __device__ __forceinline__ int64_t at(int b, int h, int i) const { return b * batch + h * head + i * row; }
};

struct FusedHeads {
  const int32_t* keyLengths;  // null: all keys
  PackedSequences packed;
  HeadRows queryRows, keyRows;
  int64_t queryRow, keyRow;  // distances of rows, in elements
  int firstHead, heads, group, queries, keys, dim;
  bool causal;
  float scale;

  explicit FusedHeads(const AttentionCall& call) : FusedHeads(call, call.geometry) {}

 private:
  FusedHeads(const AttentionCall& call, const AttentionGeometry& g)
      : keyLengths(call.in.keyLengths.data<const int32_t>()),
        packed(call),
        queryRows(g, g.queryHeads, g.queries),
        keyRows(g, g.keyHeads, g.keys),
        queryRow(g.rowStride(g.queryHeads)),
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

template <class T>
struct FusedParams : FusedHeads {
  explicit FusedParams(const AttentionCall& call)
      : FusedHeads(call),
        qNorm{call.queries.rows, weightOf(call.in.qWeight), nullptr, nullptr},
        kNorm{call.keys.rows, weightOf(call.in.kWeight), call.keys.mean, call.keys.tangentMean} {}

  // null is zero, but for q, k and v
  const T *q = nullptr, *k = nullptr, *v = nullptr, *tq = nullptr, *tk = nullptr, *tv = nullptr;
  OperandNorm<T> qNorm, kNorm;

 private:
  static const T* weightOf(const Tensor& weight) {
    return weight ? static_cast<const T*>(weight.data<void>()) : nullptr;
  }
};

// The tile of rows a block has: of one batch row, or of one sequence.
struct TilePlace {
  int batch, tile;     // the tile within its sequence
  int group;           // the batch row or sequence
  Span queries, keys;  // those of the sequence
  int length;          // how many keys count; -1 where that is unknown

  // `offsets` are those of the side that has the tiles.
  __device__ __forceinline__ TilePlace(const FusedHeads& p, const int32_t* offsets, int batch, int block, int tileRows)
      : batch(batch), tile(block), group(batch), queries{0, p.queries}, keys{0, p.keys}, length(p.keys) {
    if (!p.packed.absent()) {
      if (*p.packed.sound == 0) {
        length = -1;
        return;
      }
      tile = p.packed.tileWithin(offsets, block, tileRows, group);
      queries = PackedSequences::spanOf(p.packed.queryOffsets, group);
      keys = PackedSequences::spanOf(p.packed.keyOffsets, group);
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

  // Row numbers, and where in memory they are.
  __device__ __forceinline__ int64_t queryRowAt(const FusedHeads& p) const {
    return p.queryRows.at(batch, headOfBatch, queries.first + firstQuery);
  }
  __device__ __forceinline__ int64_t keyRowAt(const FusedHeads& p) const {
    return p.keyRows.at(batch, headOfBatch / p.group, keys.first);
  }
  __device__ __forceinline__ int64_t queryAt(const FusedHeads& p) const { return queryRowAt(p) * p.dim; }
  __device__ __forceinline__ int64_t keyAt(const FusedHeads& p) const { return keyRowAt(p) * p.dim; }
  // The key head's place in the means.
  __device__ __forceinline__ int64_t meanAt(const FusedHeads& p) const {
    return (int64_t{group} * (p.heads / p.group) + headOfBatch / p.group) * p.dim;
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

// The tile of keys as it has arrived, of QKNorm and centring. `tile` counts from the first of the block's keys.
template <int kKeys, int kDim, int kThreads, class T>
__device__ __forceinline__ void normalizeKeys(unsigned char* k, unsigned char* tk, const FusedParams<T>& p,
                                              const QueryPlace& place, int tile) {
  if (p.kNorm.absent()) return;
  normalizeTile<kKeys, kDim, kThreads>(k, tk, p.kNorm, place.keyRowAt(p) + tile * (kKeys * p.keyRows.row),
                                       p.keyRows.row, place.meanAt(p), place.length - tile * kKeys, p.dim);
}

// The block's queries as they have arrived.
template <int kRows, int kDim, int kThreads, class T>
__device__ __forceinline__ void normalizeQueries(unsigned char* q, unsigned char* tq, const FusedParams<T>& p,
                                                 const QueryPlace& place) {
  if (p.qNorm.absent()) return;
  normalizeTile<kRows, kDim, kThreads>(q, tq, p.qNorm, place.queryRowAt(p), p.queryRows.row, 0,
                                       place.queries.count - place.firstQuery, p.dim);
}

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
