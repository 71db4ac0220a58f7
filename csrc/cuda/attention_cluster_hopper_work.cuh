// Attention's backward for short sequences on Hopper, the plan: a cluster of blocks has a key head, and each of its
// blocks 128 keys and 128 queries. In step i a block works on the queries that the i-th block after it owns. What lies
// where in shared memory, which tiles are walked over, and the barriers between blocks.
#pragma once

#include <cstdint>

#include "cuda/attention_gradients_hopper.cuh"
#include "cuda/ptx/cluster.cuh"

namespace flowmap::cuda {

// What every device lets a cluster have.
constexpr int kMostClusterBlocks = 8;

using ClusterTile = HopperGradientsTile<64, 32, 3>;
constexpr int kClusterTilesOfStep = ClusterTile::kRows / ClusterTile::kQueries;

struct ClusterShared : HopperGradientsShared<ClusterTile> {
  using Base = HopperGradientsShared<ClusterTile>;
  // gQᵀ and gtQᵀ of the block's own queries, float32 as the accumulators have them: tiles of queries, of which each
  // thread of a warpgroup has four times 16 bytes.
  static constexpr int kSums = Base::kBytes, kSumChunk = 16 * kWarpgroupThreads;
  static constexpr int kSumTile = 4 * ClusterTile::kDim * ClusterTile::kQueries;
  static constexpr int kSumBytes = kClusterTilesOfStep * kSumTile;
  // Of the block's own queries lse in base 2, delta, mu and a.
  static constexpr int kStatistics = kSums + 2 * kSumBytes, kBytes = kStatistics + 16 * ClusterTile::kRows;
  // Gradients of queries pass through the weights' place on their way to memory.
  static_assert(kOwn <= kTurn);
};

// Tiles [first, end) of 32 queries of those that block `owner` owns.
struct ClusterStep {
  int owner, first, end;
};

// What a block has to do: its keys, and in each step the tiles of queries of which one sees a key.
struct ClusterWork : HeadPlace {
  int keyHead, rank, blocks, firstKey, past;

  __device__ __forceinline__ explicit ClusterWork(const FusedHeads& p)
      : HeadPlace(p, p.heads / p.group),
        keyHead(ofBatch),
        // The grid is as wide as a cluster.
        rank(static_cast<int>(blockIdx.x)),
        blocks(static_cast<int>(gridDim.x)),
        firstKey(rank * ClusterTile::kRows),
        // Query i sees the keys up to i + past, where causal.
        past(p.keys - p.queries) {}

  // Of those that the block owns.
  __device__ __forceinline__ int firstQuery() const { return firstKey; }
  __device__ __forceinline__ bool hasKeys() const { return firstKey < length; }

  __device__ __forceinline__ ClusterStep step(const FusedHeads& p, int i) const {
    constexpr int kQueries = ClusterTile::kQueries, kMost = kClusterTilesOfStep;
    const int owner = rank + i < blocks ? rank + i : rank + i - blocks, firstQuery = owner * ClusterTile::kRows;
    const int exist = min(max(p.queries - firstQuery + kQueries - 1, 0) / kQueries, kMost);
    const int blind = p.causal ? max(firstKey - past - firstQuery, 0) / kQueries : 0;
    return {owner, blind, hasKeys() ? exist : 0};
  }

  __device__ __forceinline__ GradientsTileFacts factsOf(const FusedHeads& p, int head, int firstQuery) const {
    return {p.causal ? firstQuery + past + 1 - firstKey : ClusterTile::kRows, length - firstKey, batch * p.heads + head,
            firstQuery};
  }
};

// Beside those of the block's roles. `ready[o]`: block o knows its queries' statistics; `turns[i]`: the next block has
// added what it has for step i, so that this one may, in step i + 1, to the same sums; and after the last step, that
// the own sums are complete. Each has a phase for every query head.
struct ClusterBarriers {
  hopper::Mbarrier ready[kMostClusterBlocks], turns[kMostClusterBlocks];

  // By one thread, before a barrier of the cluster.
  __device__ __forceinline__ void init() {
    for (int i = 0; i < kMostClusterBlocks; ++i) {
      hopper::mbarrierInit(&ready[i], kConsumerWarps);
      hopper::mbarrierInit(&turns[i], kConsumerWarps);
    }
    hopper::fenceMbarrierInit();
  }
};

}  // namespace flowmap::cuda
