// The roles of attention_split_hopper.cuh: a warp brings tiles; one warpgroup makes the weights P and tP, and gives gV,
// gtV and gQ; the other differentiates, and gives gK, gtK and gtQ. What one knows and the other needs goes through
// shared memory in 16 bits.
#pragma once

#include <cmath>

#include "cuda/attention_hopper_roles.cuh"
#include "cuda/ptx/reduce.cuh"

namespace flowmap::cuda {

// A block has 64 keys, which both warpgroups work on, and meets 64 queries at a time.
template <int kDim_>
struct SplitTile {
  static constexpr int kDim = kDim_, kRows = 64, kQueries = 64, kStages = 2, kThreads = kHopperThreads;
  using Own = hopper::Tile<kRows, kDim>;
  using Other = hopper::Tile<kQueries, kDim>;
  using Scores = hopper::Tile<kRows, kQueries>;
  // Of each gradient of a tile of queries there is a part for each thread of a warpgroup, as accumulators have it.
  static constexpr int kColumns = kDim / 2, kPart = kQueries * kDim;
};

template <class Tile>
struct SplitShared {
  static constexpr int kOwn = Tile::Own::kBytes, kOther = Tile::Other::kBytes, kScores = Tile::Scores::kBytes;
  static constexpr int kStage = 4 * kOther;
  static constexpr int kK = 0, kTk = kOwn, kV = 2 * kOwn, kTv = 3 * kOwn;
  static constexpr int kQ = 4 * kOwn, kG = kQ + kOther, kTq = kQ + 2 * kOther, kH = kQ + 3 * kOther;
  // P and tP, 2 KB of each for a warp, as its lanes have them; gS and gT, tiles of keys by queries.
  static constexpr int kP = kQ + Tile::kStages * kStage, kTp = kP + kScores;
  static constexpr int kGs = kTp + kScores, kGt = kGs + kScores;
  // Of each stage: lse in base 2, delta, mu and a.
  static constexpr int kKnown = kGt + kScores, kKnownFloats = 4 * Tile::kQueries;
  static constexpr int kBytes = kKnown + Tile::kStages * kKnownFloats * static_cast<int>(sizeof(float));
  static_assert(kOwn <= 2 * kScores, "keys' gradients leave by the place of the weights");
};

// Beside the tiles.
template <int kStages>
struct SplitBlock {
  hopper::Mbarrier keys, values, landed, full[kStages], empty[kStages];
  // Weights go from a warp of the one warpgroup to that of the same rows in the other; differences from all of that to
  // all of both.
  hopper::Mbarrier weightsFull[4], differencesFull, differencesEmpty;
  // Of each stage: how many of the block's keys its first query sees, and which tile of queries it is.
  int seen[kStages], part[kStages];

  // By one thread, before a barrier of the block.
  __device__ __forceinline__ void init() {
    for (hopper::Mbarrier* one : {&keys, &values, &landed}) hopper::mbarrierInit(one, 1);
    for (int stage = 0; stage < kStages; ++stage) {
      hopper::mbarrierInit(&full[stage], 1);
      hopper::mbarrierInit(&empty[stage], kConsumerWarps);
    }
    for (hopper::Mbarrier& one : weightsFull) hopper::mbarrierInit(&one, 1);
    hopper::mbarrierInit(&differencesFull, 4);
    hopper::mbarrierInit(&differencesEmpty, kConsumerWarps);
    hopper::fenceMbarrierInit();
  }
};

// What a block has to do: its keys, and the tiles of queries of which one sees a key.
template <class Tile>
struct SplitWork : HeadPlace {
  int firstKey, counting, past, first, tilesOfHead;

  __device__ __forceinline__ explicit SplitWork(const FusedHeads& p)
      : HeadPlace(p, p.heads / p.group),
        firstKey(static_cast<int>(blockIdx.x) * Tile::kRows),
        counting(length - firstKey),
        // Query i sees the keys up to i + past, where causal.
        past(p.keys - p.queries),
        first(p.causal ? max(0, firstKey - past) / Tile::kQueries : 0),
        tilesOfHead(counting > 0 ? max(0, allTiles(p) - first) : 0) {}

  static __host__ __device__ __forceinline__ int allTiles(const FusedHeads& p) {
    return (p.queries + Tile::kQueries - 1) / Tile::kQueries;
  }
  __device__ __forceinline__ int seenFrom(const FusedHeads& p, int query) const {
    return p.causal ? query + past + 1 - firstKey : Tile::kRows;
  }
};

// By a warp. Keys that do not count are operands of the queries' gradients, whatever they are: they become zero.
template <class T, class Tile>
__device__ __forceinline__ void loadOwn(const HopperBackwardParams<T>& p, const SplitWork<Tile>& work,
                                        unsigned char* tiles, SplitBlock<Tile::kStages>& block) {
  using Shared = SplitShared<Tile>;
  using Own = typename Tile::Own;
  const bool issues = threadIdx.x % 32 == 0, ragged = work.counting < Tile::kRows && work.length < p.keys;
  if (issues) {
    const TileOrigin origin{work.firstKey, work.ofBatch, work.batch};
    hopper::Mbarrier* const keys = ragged ? &block.landed : &block.keys;
    hopper::Mbarrier* const values = ragged ? &block.landed : &block.values;
    hopper::mbarrierExpect(keys, 2 * Shared::kOwn);
    loadOperand<Own>(tiles + Shared::kK, p.maps.k, p.k, origin, p.keys, keys);
    loadOperand<Own>(tiles + Shared::kTk, p.maps.tk, p.tk, origin, p.keys, keys);
    hopper::mbarrierExpect(values, 2 * Shared::kOwn);
    loadOperand<Own>(tiles + Shared::kV, p.maps.v, p.v, origin, p.keys, values);
    loadOperand<Own>(tiles + Shared::kTv, p.maps.tv, p.tv, origin, p.keys, values);
    if (ragged) hopper::mbarrierArrive(&block.landed);
  }
  if (ragged) {
    __syncwarp();
    hopper::mbarrierWait(&block.landed, 0);
    for (int tile = Shared::kK; tile < 4 * Shared::kOwn; tile += Shared::kOwn) {
      hopper::clearRows<Own>(tiles + tile, work.counting);
    }
    hopper::fenceProxyAsync();
    __syncwarp();
  }
  if (issues) hopper::mbarrierArrive(&block.keys), hopper::mbarrierArrive(&block.values);
}

// By a warp.
template <class T, class Tile>
__device__ __forceinline__ void produceSplit(const HopperBackwardParams<T>& p, const SplitWork<Tile>& work,
                                             unsigned char* tiles, SplitBlock<Tile::kStages>& block) {
  using Shared = SplitShared<Tile>;
  using Other = typename Tile::Other;
  constexpr int kQueries = Tile::kQueries;
  const int lane = threadIdx.x % 32, count = work.tilesOfHead * p.group;
  if (count > 0) loadOwn(p, work, tiles, block);
  for (int tile = 0; tile < count; ++tile) {
    const hopper::RingTurn<Tile::kStages> at(static_cast<uint32_t>(tile));
    const int head = work.ofBatch * p.group + tile / work.tilesOfHead;
    const int ofHead = work.first + tile % work.tilesOfHead, firstQuery = ofHead * kQueries;
    unsigned char* const stage = tiles + at.stage * Shared::kStage;
    hopper::Mbarrier* const full = &block.full[at.stage];
    hopper::mbarrierWait(&block.empty[at.stage], at.parity ^ 1);
    if (lane == 0) loadQueries<Shared, Other, true>(p, stage, {firstQuery, head, work.batch}, full);
    float* const known = reinterpret_cast<float*>(tiles + Shared::kKnown) + at.stage * Shared::kKnownFloats;
    const int headOfAll = work.batch * p.heads + head;
    const int64_t from = int64_t{headOfAll} * p.queries + firstQuery;
    loadStatistics<kQueries, true>(p, from, p.queries - firstQuery, known);
    if (lane == 0) {
      block.seen[at.stage] = work.seenFrom(p, firstQuery);
      block.part[at.stage] = headOfAll * work.allTiles(p) + ofHead;
    }
    __syncwarp();
    if (lane == 0) hopper::mbarrierArrive(full);
  }
}

// x = A·B, where there is y + tA·tB, of a tile of queries: A the transposed differences, B the keys. Issues only.
template <class T, class Tile>
__device__ __forceinline__ void issueQueryGradient(float (&x)[Tile::kColumns], uint64_t differences, uint64_t keys,
                                                   int from, int at, bool accumulates) {
  using hopper::Major;
#pragma unroll
  for (int k = 0; k < Tile::kRows; k += 16) {
    hopper::wgmma<T, Major::mn, Major::mn>(x, advanced(differences, from + k * Tile::Scores::kSwizzle),
                                           advanced(keys, at + k * Tile::Own::kSwizzle), accumulates || k > 0);
  }
}

// Adds a tile's gradient to sums, where that is wanted, in the order in which the warpgroup's threads have it.
template <class Tile>
__device__ __forceinline__ void addPart(float* sums, int part, const float (&x)[Tile::kColumns]) {
  if (sums == nullptr) return;
  float* const to = sums + int64_t{part} * Tile::kPart + threadIdx.x % kWarpgroupThreads * 4;
#pragma unroll
  for (int j = 0; j < Tile::kColumns; j += 4) {
    ptx::addToGlobal(to + j * kWarpgroupThreads, x[j], x[j + 1], x[j + 2], x[j + 3]);
  }
}

// A gradient of the block's keys, by the warpgroup, by way of a tile that nobody needs any more.
template <class T, class Tile>
__device__ __forceinline__ void storeOwn(const HopperBackwardParams<T>& p, unsigned char* tile, T* gradient,
                                         float (&x)[Tile::kColumns], float scale) {
  if (gradient == nullptr) return;
  const SplitWork<Tile> work(p);
  const int lane = threadIdx.x % 32, warpRow = static_cast<int>(threadIdx.x) % kWarpgroupThreads / 32 * 16;
#pragma unroll
  for (int j = 0; j < Tile::kColumns; ++j) {
    // Keys that do not count have no gradient; what an unknown number of keys gives is unknown.
    const bool counts = warpRow + lane / 4 + j / 2 % 2 * 8 < work.counting;
    x[j] = work.length < 0 ? NAN : counts ? x[j] * scale : 0;
  }
  T* const to = gradient + p.keyRows.at(work.batch, work.ofBatch, work.firstKey + warpRow) * p.dim;
  storeAccumulators<typename Tile::Own>(tile, warpRow, x, to, p.keyRow, p.keys - work.firstKey - warpRow, p.dim);
}

}  // namespace flowmap::cuda
