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
struct HopperDqWork {
  QueryPlace place;
  int rows, tiles;
  bool wanted;

  template <class T>
  __device__ __forceinline__ explicit HopperDqWork(const BackwardParams<T>& p)
      : place(p, Tile::kRows),
        rows(place.queries.count - place.firstQuery),
        wanted(p.gq != nullptr || p.gtq != nullptr) {
    const int last = visibleTo(p, min(rows, Tile::kRows) - 1);
    tiles = wanted ? (max(last, 0) + Tile::kKeys - 1) / Tile::kKeys : 0;
  }

  // A row sees a prefix of the keys; of an unknown length none.
  __device__ __forceinline__ int visibleTo(const FusedHeads& p, int row) const {
    const int reach = place.firstQuery + 1 + place.keys.count - place.queries.count + row;
    return min(place.length, p.causal ? reach : place.keys.count);
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
  const QueryPlace& place = work.place;
  if (issues) {
    const TileOrigin at{place.firstQuery, place.headOfBatch, place.batch};
    const auto load = [&](int offset, const CUtensorMap& map, const T* x) {
      loadOperand<Own>(tiles + offset, map, x, at, p.queries, &barriers.own);
    };
    hopper::mbarrierArriveExpect(&barriers.own, Shared::kOwnBytes);
    load(Shared::kQ, p.maps.q, p.q);
    load(Shared::kG, p.maps.g, p.g);
    if constexpr (Shared::kMoving) load(Shared::kTq, p.maps.tq, p.tq), load(Shared::kH, p.maps.h, p.h);
  }
  StageCursor<Tile::kStages> cursor;
  for (int tile = 0; tile < work.tiles; ++tile, cursor.advance()) {
    unsigned char* const stage = tiles + cursor.stage * Shared::kStage;
    hopper::Mbarrier* const full = &barriers.full[cursor.stage];
    const int counting = place.length - tile * Tile::kKeys;
    const bool ragged = counting < Tile::kKeys && place.length < p.keys;
    if (issues) {
      hopper::mbarrierWait(&barriers.empty[cursor.stage], cursor.parity ^ 1);
      const TileOrigin at{tile * Tile::kKeys, place.headOfBatch / p.group, place.batch};
      hopper::Mbarrier* const barrier = ragged ? &barriers.landed : full;
      const auto load = [&](int offset, const CUtensorMap& map, const T* x) {
        loadOperand<Other>(stage + offset, map, x, at, p.keys, barrier);
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
    clearRows<Other>(stage + Shared::kK, counting);
    clearRows<Other>(stage + Shared::kV, counting);
    if constexpr (Shared::kAll) clearRows<Other>(stage + Shared::kTk, counting);
    if constexpr (Shared::kAll) clearRows<Other>(stage + Shared::kTv, counting);
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
  const int groupRow = consumer / kWarpgroupThreads * 64, warpRow = consumer / 32 * 16;
  const QueryPlace& place = work.place;
  const int left = work.rows - warpRow;
  const int64_t queryAt = place.queryAt(p) + warpRow * p.queryRow;
  QueryRow* const known = reinterpret_cast<QueryRow*>(tiles + Shared::kKnown) + warpRow;
  {
    const int64_t statisticsAt = place.statisticsAt(p) + warpRow;
    if (lane < 16) {
      known[lane].lse2 = lane < left ? p.lse[statisticsAt + lane] * kLog2E : INFINITY;
      known[lane].mu = kMoving && p.mu != nullptr && lane < left ? p.mu[statisticsAt + lane] : 0;
    }
    hopper::mbarrierWait(&barriers.own, 0);
    outputProducts<PanelLayout<Own>, kMoving>(known, p, queryAt, statisticsAt, tiles + Shared::kG, tiles + Shared::kH,
                                              warpRow, left);
    __syncwarp();
  }

  float gq[kDim / 2] = {}, gtq[kMoving ? kDim / 2 : 1] = {};
  StageCursor<Tile::kStages> cursor;
  for (int tile = 0; tile < work.tiles; ++tile, cursor.advance()) {
    const unsigned char* const stage = tiles + cursor.stage * Shared::kStage;
    hopper::mbarrierWait(&barriers.full[cursor.stage], cursor.parity);
    float s[kScores], t[kMoving ? kScores : 1], d[kMoving ? kScores : 1], r[kScores];
    hopper::wgmmaFence();
    issueScores<T, Own, Other, kMoving, kAll>(s, t, tiles + Shared::kQ, tiles + Shared::kTq, groupRow,
                                              stage + Shared::kK, stage + Shared::kTk);
    hopper::wgmmaCommit();
    if constexpr (kMoving) {
      issueScores<T, Own, Other, true, kAll>(d, r, tiles + Shared::kH, tiles + Shared::kG, groupRow,
                                             stage + Shared::kV, stage + Shared::kTv);
    } else {
      issueScores<T, Own, Other, false, false>(r, d, tiles + Shared::kG, nullptr, groupRow, stage + Shared::kV,
                                               nullptr);
    }
    hopper::wgmmaCommit();
    hopper::wgmmaWait<1>();
    hopper::holdRegisters(s);
    if constexpr (kMoving) hopper::holdRegisters(t);
    const int firstKey = tile * kKeys;
    const bool masked = work.visibleTo(p, warpRow) < firstKey + kKeys;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane / 4 + 8 * half;
      const QueryRow query = known[row];
      const int visible = masked ? work.visibleTo(p, warpRow + row) - firstKey - lane % 4 * 2 : kKeys;
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
    issueGradients<T, Other, kMoving, kAll>(gq, gtq, gs, gt, stage + Shared::kK, stage + Shared::kTk);
    hopper::wgmmaCommit();
    hopper::wgmmaWait<0>();
    hopper::holdRegisters(gq);
    if constexpr (kMoving) hopper::holdRegisters(gtq);
    releaseStage(&barriers.empty[cursor.stage]);
  }

  // What it is unknown to see has no gradient.
  const float factor = place.length < 0 ? NAN : p.scale;
  const auto store = [&](T* to, float(&x)[kDim / 2]) {
    if (to == nullptr) return;
#pragma unroll
    for (float& each : x) each *= factor;
    storeAccumulators<Own>(tiles + Shared::kQ, warpRow, x, to + queryAt, p.queryRow, left, p.dim);
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
