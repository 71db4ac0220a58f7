// The kernel of attention_dq.cuh for Hopper: gq and gtq, and before these a and delta of each query. Each of two
// warpgroups owns 64 queries, whose gradients stay in registers over all keys; a warp of a third brings the tiles.
#pragma once

#include <cmath>

#include "cuda/attention_hopper_roles.cuh"

namespace flowmap::cuda {

template <int kDim_, int kKeys_, int kStages_>
struct HopperDqTile {
  static constexpr int kDim = kDim_, kKeys = kKeys_, kStages = kStages_;
  static constexpr int kRows = 64 * kConsumerWarpgroups, kThreads = kHopperThreads;
  using Own = hopper::Tile<kRows, kDim>;
  using Other = hopper::Tile<kKeys, kDim>;
};

template <class Tile, Moving kWhat>
struct HopperDqShared {
  static constexpr bool kMoving = kWhat != Moving::None, kAll = kWhat == Moving::All;
  static constexpr int kOwn = Tile::Own::kBytes, kOther = Tile::Other::kBytes;
  static constexpr int kOwnBytes = (kMoving ? 4 : 2) * kOwn, kStage = (kAll ? 4 : 2) * kOther;
  static constexpr int kQ = 0, kG = kOwn, kTq = 2 * kOwn, kH = 3 * kOwn;
  static constexpr int kK = kOwnBytes, kV = kK + kOther, kTk = kK + 2 * kOther, kTv = kK + 3 * kOther;
  static constexpr int kKnown = kK + Tile::kStages * kStage;
  static constexpr int kBytes = kKnown + Tile::kRows * static_cast<int>(sizeof(QueryRow));
};

// What a block has to do: its queries, and the tiles of keys that one of them sees.
template <class Tile>
struct HopperDqWork : HeadPlace {
  int firstQuery, rows, reach;

  __device__ __forceinline__ explicit HopperDqWork(const FusedHeads& p)
      : HeadPlace(p, p.heads),
        // Under a causal mask the longest first.
        firstQuery(static_cast<int>(p.causal ? gridDim.x - 1 - blockIdx.x : blockIdx.x) * Tile::kRows),
        rows(p.queries - firstQuery),
        reach(p.causal ? firstQuery + 1 + p.keys - p.queries : p.keys) {}

  // A row sees a prefix of the keys; of an unknown length none.
  __device__ __forceinline__ int visibleTo(int row) const { return min(length, reach + row); }

  template <class T>
  __device__ __forceinline__ int tiles(const BackwardParams<T>& p) const {
    if (p.gq == nullptr && p.gtq == nullptr) return 0;
    return (max(visibleTo(min(rows, Tile::kRows) - 1), 0) + Tile::kKeys - 1) / Tile::kKeys;
  }
  __device__ __forceinline__ int64_t queryAt(const FusedHeads& p, int row) const {
    return p.queryRows.at(batch, ofBatch, firstQuery + row) * p.dim;
  }
};

// By a warp. Of the last tile of keys some may not count, whatever they are: these become zero.
template <class T, class Tile, Moving kWhat>
__device__ __forceinline__ void produceDq(const HopperBackwardParams<T>& p, const HopperDqWork<Tile>& work,
                                          unsigned char* tiles, RoleBarriers<Tile::kStages>& barriers) {
  using Shared = HopperDqShared<Tile, kWhat>;
  using Own = typename Tile::Own;
  using Other = typename Tile::Other;
  const bool issues = threadIdx.x == 0;
  const int count = work.tiles(p);
  if (issues) {
    const TileOrigin at{work.firstQuery, work.ofBatch, work.batch};
    const auto load = [&](int offset, const CUtensorMap& map, const T* x) {
      loadOperand<Own>(tiles + offset, map, x, at, p.queries, &barriers.own);
    };
    hopper::mbarrierArriveExpect(&barriers.own, Shared::kOwnBytes);
    load(Shared::kQ, p.maps.q, p.q);
    load(Shared::kG, p.maps.g, p.g);
    if constexpr (Shared::kMoving) load(Shared::kTq, p.maps.tq, p.tq), load(Shared::kH, p.maps.h, p.h);
  }
  for (int tile = 0; tile < count; ++tile) {
    const hopper::RingTurn<Tile::kStages> at(static_cast<uint32_t>(tile));
    unsigned char* const stage = tiles + at.stage * Shared::kStage;
    hopper::Mbarrier* const full = &barriers.full[at.stage];
    const int counting = work.length - tile * Tile::kKeys;
    const bool ragged = counting < Tile::kKeys && work.length < p.keys;
    if (issues) {
      hopper::mbarrierWait(&barriers.empty[at.stage], at.parity ^ 1);
      const TileOrigin origin{tile * Tile::kKeys, work.ofBatch / p.group, work.batch};
      hopper::Mbarrier* const barrier = ragged ? &barriers.landed : full;
      const auto load = [&](int offset, const CUtensorMap& map, const T* x) {
        loadOperand<Other>(stage + offset, map, x, origin, p.keys, barrier);
      };
      hopper::mbarrierArriveExpect(barrier, Shared::kStage);
      load(Shared::kK, p.maps.k, p.k);
      if constexpr (Shared::kAll) load(Shared::kTk, p.maps.tk, p.tk);
      load(Shared::kV, p.maps.v, p.v);
      if constexpr (Shared::kAll) load(Shared::kTv, p.maps.tv, p.tv);
    }
    if (!ragged) continue;
    __syncwarp();
    hopper::mbarrierWait(&barriers.landed, 0);
    hopper::clearRows<Other>(stage + Shared::kK, counting);
    hopper::clearRows<Other>(stage + Shared::kV, counting);
    if constexpr (Shared::kAll) hopper::clearRows<Other>(stage + Shared::kTk, counting);
    if constexpr (Shared::kAll) hopper::clearRows<Other>(stage + Shared::kTv, counting);
    hopper::fenceProxyAsync();
    __syncwarp();
    if (issues) hopper::mbarrierArrive(full);
  }
}

template <class T, class Tile, Moving kWhat>
__device__ __forceinline__ void consumeDq(const HopperBackwardParams<T>& p, const HopperDqWork<Tile>& work,
                                          unsigned char* tiles, RoleBarriers<Tile::kStages>& barriers) {
  using Shared = HopperDqShared<Tile, kWhat>;
  using Own = typename Tile::Own;
  using Other = typename Tile::Other;
  constexpr bool kMoving = Shared::kMoving, kAll = Shared::kAll;
  constexpr int kDim = Tile::kDim, kKeys = Tile::kKeys, kScores = kKeys / 2, kSteps = kKeys / 16;
  const int consumer = static_cast<int>(threadIdx.x) - kWarpgroupThreads, lane = threadIdx.x % 32;
  const int warpRow = consumer / 32 * 16, count = work.tiles(p);
  // The same in a warp, as the compiler is to know.
  const int groupRow = __shfl_sync(0xffffffffu, consumer / kWarpgroupThreads * 64, 0);
  QueryRow* const known = reinterpret_cast<QueryRow*>(tiles + Shared::kKnown) + warpRow;
  {
    const int left = work.rows - warpRow;
    const int64_t statisticsAt = int64_t{work.head} * p.queries + work.firstQuery + warpRow;
    if (lane < 16) {
      known[lane].lse2 = lane < left ? p.lse[statisticsAt + lane] * kLog2E : INFINITY;
      known[lane].mu = kMoving && p.mu != nullptr && lane < left ? p.mu[statisticsAt + lane] : 0;
    }
    hopper::mbarrierWait(&barriers.own, 0);
    outputProducts<PanelLayout<Own>, kMoving>(known, p, work.queryAt(p, warpRow), statisticsAt, tiles + Shared::kG,
                                              tiles + Shared::kH, warpRow, left);
    __syncwarp();
  }

  float gq[kDim / 2] = {}, gtq[kMoving ? kDim / 2 : 1] = {};
  const uint64_t own = Own::rowOperand(tiles, groupRow, 0);
  const uint64_t rows = Other::rowOperand(tiles, 0, 0), columns = Other::columnOperand(tiles, 0, 0);
  for (int tile = 0; tile < count; ++tile) {
    const hopper::RingTurn<Tile::kStages> at(static_cast<uint32_t>(tile));
    const int stage = at.stage * Shared::kStage;
    hopper::mbarrierWait(&barriers.full[at.stage], at.parity);
    float s[kScores], t[kMoving ? kScores : 1], d[kMoving ? kScores : 1], r[kScores];
    const uint64_t keys = advanced(rows, stage);
    hopper::wgmmaFence();
    issueScores<T, Own, Other, kMoving, kAll>(s, t, own, Shared::kQ, Shared::kTq, keys, Shared::kK, Shared::kTk);
    hopper::wgmmaCommit();
    if constexpr (kMoving)
      issueScores<T, Own, Other, true, kAll>(d, r, own, Shared::kH, Shared::kG, keys, Shared::kV, Shared::kTv);
    else
      issueScores<T, Own, Other, false, false>(r, d, own, Shared::kG, 0, keys, Shared::kV, 0);
    hopper::wgmmaCommit();
    hopper::wgmmaWait<1>();
    hopper::holdRegisters(s);
    if constexpr (kMoving) hopper::holdRegisters(t);
    const int firstKey = tile * kKeys;
    const bool masked = work.visibleTo(warpRow) < firstKey + kKeys;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane / 4 + 8 * half;
      const QueryRow query = known[row];
      const int visible = masked ? work.visibleTo(warpRow + row) - firstKey - lane % 4 * 2 : kKeys;
#pragma unroll
      for (int j = 2 * half; j < kScores; j += j % 2 == 0 ? 1 : 3) {
        weigh<kMoving>(s[j], kMoving ? &t[kMoving ? j : 0] : nullptr, query, p.scale, j / 4 * 8 + j % 2 < visible);
      }
    }
    hopper::wgmmaWait<0>();
    hopper::holdRegisters(r);
    if constexpr (kMoving) hopper::holdRegisters(d);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const QueryRow query = known[lane / 4 + 8 * half];
#pragma unroll
      for (int j = 2 * half; j < kScores; j += j % 2 == 0 ? 1 : 3) {
        const int m = kMoving ? j : 0;
        differentiate<kMoving>(s[j], &t[m], &d[m], r[j], query);
      }
    }
    uint32_t gs[kSteps][4], gt[kSteps][4];
    hopper::toOperand<T>(gs, r);
    if constexpr (kMoving) hopper::toOperand<T>(gt, d);
    hopper::holdRegisters(gq);
    if constexpr (kMoving) hopper::holdRegisters(gtq);
    hopper::wgmmaFence();
    issueGradients<T, Other, kMoving, kAll>(gq, gtq, gs, gt, advanced(columns, stage), Shared::kK, Shared::kTk);
    hopper::wgmmaCommit();
    hopper::wgmmaWait<0>();
    hopper::holdRegisters(gq);
    if constexpr (kMoving) hopper::holdRegisters(gtq);
    hopper::holdRegisters(gs);
    if constexpr (kMoving) hopper::holdRegisters(gt);
    releaseStage(&barriers.empty[at.stage]);
  }

  // All of it once more: registers are worth more in the loop. What it is unknown to see has no gradient.
  const HopperDqWork<Tile> end(p);
  const int64_t to = end.queryAt(p, warpRow);
  const float factor = end.length < 0 ? NAN : p.scale;
  const auto store = [&](T* gradient, float(&x)[kDim / 2]) {
    if (gradient == nullptr) return;
#pragma unroll
    for (float& each : x) each *= factor;
    storeAccumulators<Own>(tiles + Shared::kQ, warpRow, x, gradient + to, p.queryRow, end.rows - warpRow, p.dim);
  };
  store(p.gq, gq);
  if constexpr (kMoving) store(p.gtq, gtq);
}

template <class T, class Tile, Moving kWhat>
__global__ void __launch_bounds__(kHopperThreads, 1)
    attentionDqHopperKernel(const __grid_constant__ HopperBackwardParams<T> p) {
  extern __shared__ __align__(1024) unsigned char hopperTiles[];
  __shared__ RoleBarriers<Tile::kStages> barriers;
  const HopperDqWork<Tile> work(p);
  if (work.rows <= 0) return;
  if (threadIdx.x == 0) barriers.init();
  __syncthreads();
  if (threadIdx.x < kWarpgroupThreads) {
    hopper::decreaseRegisters<kProducerRegisters>();
    if (threadIdx.x < 32) produceDq<T, Tile, kWhat>(p, work, hopperTiles, barriers);
  } else {
    hopper::increaseRegisters<kConsumerRegisters>();
    consumeDq<T, Tile, kWhat>(p, work, hopperTiles, barriers);
  }
}

}  // namespace flowmap::cuda
