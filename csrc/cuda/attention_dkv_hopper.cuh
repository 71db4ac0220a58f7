// The kernel of attention_dkv.cuh for Hopper: gk, gtk, gv and gtv. Each of two warpgroups owns 64 keys and works on
// transposed scores, so that the weights in its accumulators are the operands of what it sums over queries; a warp of a
// third brings the tiles of all the query heads of the block's key head, in order, and what each query knows.
#pragma once

#include <cmath>

#include "cuda/attention_hopper_roles.cuh"

namespace flowmap::cuda {

template <int kDim_, int kQueries_, int kStages_>
struct HopperDkvTile {
  static constexpr int kDim = kDim_, kQueries = kQueries_, kStages = kStages_;
  static constexpr int kRows = 64 * kConsumerWarpgroups, kThreads = kHopperThreads;
  using Own = hopper::Tile<kRows, kDim>;
  using Other = hopper::Tile<kQueries, kDim>;
};

template <class Tile, Moving kWhat, KeyGradients kOf>
struct HopperDkvShared {
  static constexpr bool kMoving = kWhat != Moving::None, kAll = kWhat == Moving::All;
  static constexpr bool kKeys = kOf != KeyGradients::OfValues, kValues = kOf != KeyGradients::OfKeys;
  static constexpr int kOwn = Tile::Own::kBytes, kOther = Tile::Other::kBytes;
  static constexpr int kOwnBytes = (kKeys ? 2 : 1) * (kAll ? 2 : 1) * kOwn, kStage = (kMoving ? 4 : 2) * kOther;
  static constexpr int kK = 0, kTk = kOwn, kV = kAll ? 2 * kOwn : kOwn, kTv = 3 * kOwn;
  static constexpr int kQ = kOwnBytes, kG = kQ + kOther, kTq = kQ + 2 * kOther, kH = kQ + 3 * kOther;
  // Of each stage: lse in base 2, delta and, with tangents, mu and a; how many of the block's keys its first query
  // sees.
  static constexpr int kKnown = kQ + Tile::kStages * kStage, kSeen = (kMoving ? 4 : 2) * Tile::kQueries;
  static constexpr int kKnownFloats = kSeen + 2;
  static constexpr int kBytes = kKnown + Tile::kStages * kKnownFloats * static_cast<int>(sizeof(float));
};

// What a block has to do: its keys, and the tiles of queries of which one sees a key.
template <class Tile>
struct HopperDkvWork : HeadPlace {
  int firstKey, past, first, tilesOfHead;

  __device__ __forceinline__ explicit HopperDkvWork(const FusedHeads& p)
      : HeadPlace(p, p.heads / p.group),
        firstKey(static_cast<int>(blockIdx.x) * Tile::kRows),
        // Query i sees the keys up to i + past, where causal.
        past(p.keys - p.queries),
        first(p.causal ? max(0, firstKey - past) / Tile::kQueries : 0),
        tilesOfHead(firstKey < length ? max(0, (p.queries + Tile::kQueries - 1) / Tile::kQueries - first) : 0) {}

  __device__ __forceinline__ int seenFrom(const FusedHeads& p, int query) const {
    return p.causal ? query + past + 1 - firstKey : Tile::kRows;
  }
};

// By a warp.
template <class T, class Tile, Moving kWhat, KeyGradients kOf>
__device__ __forceinline__ void produceDkv(const HopperBackwardParams<T>& p, const HopperDkvWork<Tile>& work,
                                           unsigned char* tiles, RoleBarriers<Tile::kStages>& barriers) {
  using Shared = HopperDkvShared<Tile, kWhat, kOf>;
  using Own = typename Tile::Own;
  using Other = typename Tile::Other;
  constexpr int kQueries = Tile::kQueries;
  const int lane = threadIdx.x % 32, count = work.tilesOfHead * p.group;
  if (lane == 0 && count > 0) {
    const TileOrigin origin{work.firstKey, work.ofBatch, work.batch};
    const auto load = [&](int offset, const CUtensorMap& map, const T* x) {
      loadOperand<Own>(tiles + offset, map, x, origin, p.keys, &barriers.own);
    };
    hopper::mbarrierArriveExpect(&barriers.own, Shared::kOwnBytes);
    load(Shared::kK, p.maps.k, p.k);
    if constexpr (Shared::kAll) load(Shared::kTk, p.maps.tk, p.tk);
    if constexpr (Shared::kKeys) load(Shared::kV, p.maps.v, p.v);
    if constexpr (Shared::kKeys && Shared::kAll) load(Shared::kTv, p.maps.tv, p.tv);
  }
  for (int tile = 0; tile < count; ++tile) {
    const hopper::RingTurn<Tile::kStages> at(static_cast<uint32_t>(tile));
    const int head = work.ofBatch * p.group + tile / work.tilesOfHead;
    const int firstQuery = (work.first + tile % work.tilesOfHead) * kQueries;
    unsigned char* const stage = tiles + at.stage * Shared::kStage;
    hopper::Mbarrier* const full = &barriers.full[at.stage];
    hopper::mbarrierWait(&barriers.empty[at.stage], at.parity ^ 1);
    if (lane == 0) loadQueries<Shared, Other, Shared::kMoving>(p, stage, {firstQuery, head, work.batch}, full);
    float* const known = reinterpret_cast<float*>(tiles + Shared::kKnown) + at.stage * Shared::kKnownFloats;
    const int64_t from = (int64_t{work.batch} * p.heads + head) * p.queries + firstQuery;
    loadStatistics<kQueries, Shared::kMoving>(p, from, p.queries - firstQuery, known);
    if (lane == 0) reinterpret_cast<int*>(known)[Shared::kSeen] = work.seenFrom(p, firstQuery);
    __syncwarp();
    if (lane == 0) hopper::mbarrierArrive(full);
  }
}

template <class T, class Tile, Moving kWhat, KeyGradients kOf>
__device__ __forceinline__ void consumeDkv(const HopperBackwardParams<T>& p, const HopperDkvWork<Tile>& work,
                                           unsigned char* tiles, RoleBarriers<Tile::kStages>& barriers) {
  using Shared = HopperDkvShared<Tile, kWhat, kOf>;
  using Own = typename Tile::Own;
  using Other = typename Tile::Other;
  constexpr bool kMoving = Shared::kMoving, kAll = Shared::kAll, kKeys = Shared::kKeys, kValues = Shared::kValues;
  constexpr int kColumns = Tile::kDim / 2, kQueries = Tile::kQueries, kScores = kQueries / 2, kSteps = kQueries / 16;
  const int consumer = static_cast<int>(threadIdx.x) - kWarpgroupThreads, lane = threadIdx.x % 32;
  const int warpRow = consumer / 32 * 16, count = work.tilesOfHead * p.group;
  // The same in a warp, as the compiler is to know.
  const int groupRow = __shfl_sync(0xffffffffu, consumer / kWarpgroupThreads * 64, 0);
  const uint64_t own = Own::rowOperand(tiles, groupRow, 0);
  const uint64_t rows = Other::rowOperand(tiles, 0, 0), columns = Other::columnOperand(tiles, 0, 0);
  float gk[kKeys ? kColumns : 1] = {}, gtk[kKeys && kAll ? kColumns : 1] = {};
  float gv[kValues ? kColumns : 1] = {}, gtv[kValues && kAll ? kColumns : 1] = {};
  if (count > 0) hopper::mbarrierWait(&barriers.own, 0);
  for (int tile = 0; tile < count; ++tile) {
    const hopper::RingTurn<Tile::kStages> at(static_cast<uint32_t>(tile));
    const int stage = at.stage * Shared::kStage;
    hopper::mbarrierWait(&barriers.full[at.stage], at.parity);
    float s[kScores], t[kMoving ? kScores : 1], d[kMoving ? kScores : 1], r[kScores];
    const uint64_t queries = advanced(rows, stage);
    hopper::wgmmaFence();
    issueScores<T, Own, Other, kAll, kMoving>(s, t, own, Shared::kK, Shared::kTk, queries, Shared::kQ, Shared::kTq);
    hopper::wgmmaCommit();
    if constexpr (kKeys) {
      if constexpr (kMoving)
        issueScores<T, Own, Other, kAll, true>(d, r, own, Shared::kV, Shared::kTv, queries, Shared::kH, Shared::kG);
      else
        issueScores<T, Own, Other, false, false>(r, d, own, Shared::kV, 0, queries, Shared::kG, 0);
      hopper::wgmmaCommit();
    }
    hopper::wgmmaWait<kKeys ? 1 : 0>();
    hopper::holdRegisters(s);
    if constexpr (kMoving) hopper::holdRegisters(t);
    const float* const known = reinterpret_cast<const float*>(tiles + Shared::kKnown) + at.stage * Shared::kKnownFloats;
    const auto pairOf = [&](int kind, int column) {
      return *reinterpret_cast<const float2*>(known + lane % 4 * 2 + kind * kQueries + column);
    };
    const int seen = reinterpret_cast<const int*>(known)[Shared::kSeen] - warpRow;
    const bool masked = seen < 16;
#pragma unroll
    for (int column = 0; column < kQueries; column += 8) {
      const float2 lse2 = pairOf(0, column), mu = kMoving ? pairOf(2, column) : float2{};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int j = column / 2 + i, second = i % 2;
        const QueryRow query{second ? lse2.y : lse2.x, second ? mu.y : mu.x, 0, 0};
        const bool visible = !masked || lane / 4 + i / 2 * 8 < seen + column + lane % 4 * 2 + second;
        weigh<kMoving>(s[j], &t[kMoving ? j : 0], query, p.scale, visible);
      }
    }
    uint32_t weights[kValues ? kSteps : 1][4], moved[kValues ? kSteps : 1][4];
    if constexpr (kValues) {
      hopper::toOperand<T>(weights, s);
      if constexpr (kMoving) hopper::toOperand<T>(moved, t);
      hopper::holdRegisters(gv);
      if constexpr (kAll) hopper::holdRegisters(gtv);
      hopper::wgmmaFence();
      const uint64_t others = advanced(columns, stage);
      if constexpr (kMoving)
        issueGradients<T, Other, kAll, true>(gv, gtv, moved, weights, others, Shared::kH, Shared::kG);
      else
        issueGradients<T, Other, false, false>(gv, gtv, weights, moved, others, Shared::kG, 0);
      hopper::wgmmaCommit();
    }
    if constexpr (kKeys) {
      hopper::wgmmaWait<kValues ? 1 : 0>();
      hopper::holdRegisters(r);
      if constexpr (kMoving) hopper::holdRegisters(d);
#pragma unroll
      for (int column = 0; column < kQueries; column += 8) {
        const float2 delta = pairOf(1, column), a = kMoving ? pairOf(3, column) : float2{};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int j = column / 2 + i, m = kMoving ? j : 0, second = i % 2;
          const QueryRow query{0, 0, second ? a.y : a.x, second ? delta.y : delta.x};
          differentiate<kMoving>(s[j], &t[m], &d[m], r[j], query);
        }
      }
      uint32_t gs[kSteps][4], gt[kSteps][4];
      hopper::toOperand<T>(gs, r);
      if constexpr (kMoving) hopper::toOperand<T>(gt, d);
      hopper::holdRegisters(gk);
      if constexpr (kAll) hopper::holdRegisters(gtk);
      hopper::wgmmaFence();
      issueGradients<T, Other, kAll, kMoving>(gk, gtk, gs, gt, advanced(columns, stage), Shared::kQ, Shared::kTq);
      hopper::wgmmaCommit();
      hopper::wgmmaWait<0>();
      hopper::holdRegisters(gs);
      if constexpr (kMoving) hopper::holdRegisters(gt);
    }
    hopper::wgmmaWait<0>();
    if constexpr (kValues) hopper::holdRegisters(weights);
    if constexpr (kValues && kMoving) hopper::holdRegisters(moved);
    if constexpr (kValues) hopper::holdRegisters(gv);
    if constexpr (kValues && kAll) hopper::holdRegisters(gtv);
    if constexpr (kKeys) hopper::holdRegisters(gk);
    if constexpr (kKeys && kAll) hopper::holdRegisters(gtk);
    releaseStage(&barriers.empty[at.stage]);
  }

  // All of it once more: registers are worth more in the loop.
  const HopperDkvWork<Tile> end(p);
  const int left = p.keys - end.firstKey - warpRow, counting = end.length - end.firstKey - warpRow;
  const int64_t keyAt = p.keyRows.at(end.batch, end.ofBatch, end.firstKey + warpRow) * p.dim;
  const auto store = [&](T* gradient, auto& x, float scale) {
    if (gradient == nullptr) return;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      // Keys that do not count have no gradient; what an unknown number of keys gives is unknown.
      const bool counts = lane / 4 + j / 2 % 2 * 8 < counting;
      x[j] = end.length < 0 ? NAN : counts ? x[j] * scale : 0;
    }
    storeAccumulators<Own>(tiles + Shared::kK, warpRow, x, gradient + keyAt, p.keyRow, left, p.dim);
  };
  if constexpr (kKeys) store(p.gk, gk, p.scale);
  if constexpr (kKeys && kAll) store(p.gtk, gtk, p.scale);
  if constexpr (kValues) store(p.gv, gv, 1);
  if constexpr (kValues && kAll) store(p.gtv, gtv, 1);
}

template <class T, class Tile, Moving kWhat, KeyGradients kOf>
__global__ void __launch_bounds__(kHopperThreads, 1)
    attentionDkvHopperKernel(const __grid_constant__ HopperBackwardParams<T> p) {
  extern __shared__ __align__(1024) unsigned char hopperTiles[];
  __shared__ RoleBarriers<Tile::kStages> barriers;
  const HopperDkvWork<Tile> work(p);
  if (threadIdx.x == 0) barriers.init();
  __syncthreads();
  if (threadIdx.x < kWarpgroupThreads) {
    hopper::decreaseRegisters<kProducerRegisters>();
    if (threadIdx.x < 32) produceDkv<T, Tile, kWhat, kOf>(p, work, hopperTiles, barriers);
  } else {
    hopper::increaseRegisters<kConsumerRegisters>();
    consumeDkv<T, Tile, kWhat, kOf>(p, work, hopperTiles, barriers);
  }
}

}  // namespace flowmap::cuda
