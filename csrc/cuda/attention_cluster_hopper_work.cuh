// Attention's backward for short sequences on Hopper, the plan: a cluster of blocks has a key head, and each of its
// blocks 128 keys and 128 queries. In step i a block works on the queries that the i-th block after it owns. What lies
// where in shared memory, which tiles are walked over, and the barriers between blocks.
#pragma once

#include <cstdint>

#include "cuda/attention_hopper_roles.cuh"
#include "cuda/ptx/cluster.cuh"

namespace flowmap::cuda {

// What every device lets a cluster have.
constexpr int kMostClusterBlocks = 8;

struct ClusterTile {
  static constexpr int kDim = 64, kRows = 64 * kConsumerWarpgroups, kThreads = kHopperThreads;
  static constexpr int kQueries = 32, kStages = 3, kTilesOfStep = kRows / kQueries;
  using Own = hopper::Tile<kRows, kDim>;
  using Other = hopper::Tile<kQueries, kDim>;
  // gSᵀ or gTᵀ of a tile of queries.
  using Weights = hopper::Tile<kRows, kQueries>;
};

struct ClusterShared {
  using Tile = ClusterTile;
  static constexpr int kOwn = Tile::Own::kBytes, kOther = Tile::Other::kBytes, kWeights = Tile::Weights::kBytes;
  static constexpr int kK = 0, kTk = kOwn, kV = 2 * kOwn, kTv = 3 * kOwn, kOwnBytes = 4 * kOwn;
  static constexpr int kStage = 4 * kOther;
  static constexpr int kQ = kOwnBytes, kG = kQ + kOther, kTq = kQ + 2 * kOther, kH = kQ + 3 * kOther;
  // gSᵀ and gTᵀ, in two places that tiles take in turn.
  static constexpr int kGs = kQ + Tile::kStages * kStage, kGt = kGs + kWeights, kTurn = 2 * kWeights;
  // gQᵀ and gtQᵀ of the block's own queries, float32 as the accumulators have them: tiles of queries, of which each
  // thread of a warpgroup has four times 16 bytes.
  static constexpr int kSums = kGs + 2 * kTurn, kSumChunk = 16 * kWarpgroupThreads;
  static constexpr int kSumTile = 4 * Tile::kDim * Tile::kQueries, kSumBytes = Tile::kTilesOfStep * kSumTile;
  // Of the block's own queries lse in base 2, delta, mu and a; then the same of each stage's, and how many of the
  // block's keys its first query sees.
  static constexpr int kStatistics = kSums + 2 * kSumBytes, kKnown = kStatistics + 16 * Tile::kRows;
  static constexpr int kSeen = 4 * Tile::kQueries, kKnownFloats = kSeen + 2;
  static constexpr int kBytes = kKnown + Tile::kStages * kKnownFloats * static_cast<int>(sizeof(float));
  // Gradients of queries pass through the weights' place on their way to memory.
  static_assert(kOwn <= kTurn);
};

// Tiles [first, end) of 32 queries of those that block `owner` owns.
struct ClusterStep {
  int owner, first, end;
};

// What a block has to do: its keys, and in each step the tiles of queries of which one sees a key.
struct ClusterWork : HeadPlace {
  int rank, blocks, firstRow, past;

  // Keys and queries have the same numbers.
  __device__ __forceinline__ explicit ClusterWork(const FusedHeads& p)
      : HeadPlace(p, p.heads / p.group),
        // The grid is as wide as a cluster.
        rank(static_cast<int>(blockIdx.x)),
        blocks(static_cast<int>(gridDim.x)),
        firstRow(rank * ClusterTile::kRows),
        // Query i sees the keys up to i + past, where causal.
        past(p.keys - p.queries) {}

  __device__ __forceinline__ bool hasKeys() const { return firstRow < length; }

  __device__ __forceinline__ ClusterStep step(const FusedHeads& p, int i) const {
    constexpr int kQueries = ClusterTile::kQueries, kMost = ClusterTile::kTilesOfStep;
    const int owner = rank + i < blocks ? rank + i : rank + i - blocks, firstQuery = owner * ClusterTile::kRows;
    const int exist = min(max(p.queries - firstQuery + kQueries - 1, 0) / kQueries, kMost);
    const int blind = p.causal ? max(firstRow - past - firstQuery, 0) / kQueries : 0;
    return {owner, blind, hasKeys() ? exist : 0};
  }

  __device__ __forceinline__ int seenFrom(const FusedHeads& p, int query) const {
    return p.causal ? query + past + 1 - firstRow : ClusterTile::kRows;
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
