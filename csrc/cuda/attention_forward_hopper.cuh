// Attention and its tangent on Hopper: the maths of attention_forward.cuh by wgmma. One warpgroup brings tiles by TMA;
// two have 64 queries each and take turns at the tensor cores, so that one's softmax hides behind the other's products.
// Blocks stay and walk over items of 128 queries of a head; mbarriers carry on from item to item.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/attention_forward_hopper_producers.cuh"
#include "cuda/attention_forward_rows.cuh"
#include "cuda/attention_hopper.h"
#include "cuda/ptx/barrier.cuh"

namespace flowmap::cuda {

// ---- the consumers, a warpgroup each ----

// Named barriers: that of the turn of each warpgroup at the tensor cores, and one that a warpgroup has for itself.
constexpr int kHopperTurns = 1, kHopperOwn = 3;

template <int kTiles>
__device__ __forceinline__ float (&flat(float (&x)[kTiles][4]))[4 * kTiles] {
  return reinterpret_cast<float(&)[4 * kTiles]>(x);
}

template <class T, class Tile, Tangents kTangents>
__device__ __forceinline__ void attendHopper(HopperForwardShared<Tile, kTangents>& shared,
                                             const HopperForwardParams& p) {
  using Shared = HopperForwardShared<Tile, kTangents>;
  using OfQueries = typename Tile::OfQueries;
  using OfKeys = typename Tile::OfKeys;
  using Turn = hopper::RingTurn<Tile::kStages>;
  constexpr bool kMoving = Shared::kMoving, kAll = Shared::kAll;
  constexpr int kKeys = Tile::kKeys, kScores = kKeys / 8, kColumns = Tile::kDim / 8, kSteps = kKeys / 16;

  // The same in all lanes, and the compiler knows it.
  const int group = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128 - 1, 0);
  const int lane = threadIdx.x % 32, warpRow = 64 * group + static_cast<int>(threadIdx.x) % 128 / 32 * 16;
  const bool leads = threadIdx.x % 128 == 0;
  const float scale2 = p.scale * kLog2E;
  const auto takeTurn = [&] { ptx::barrierSync<256>(kHopperTurns + group); };
  const auto passTurn = [&] { ptx::barrierArrive<256>(kHopperTurns + 1 - group); };
  // Once a place is free its barrier of arrivals goes on, and no lane may still be asking it.
  const auto release = [&](hopper::Mbarrier* empty) {
    __syncwarp();
    if (lane == 0) hopper::mbarrierArrive(empty);
  };
  unsigned char* const queries = shared.queries[group][0];
  unsigned char* const tangents = shared.queries[group][kMoving ? 1 : 0];

  if (group == 1) passTurn();
  uint32_t used = 0, items = 0;
  for (int at = static_cast<int>(blockIdx.x); at < HopperItem<Tile>::count(p);
       at += static_cast<int>(gridDim.x), ++items) {
    const HopperItem<Tile> item(p, at);
    // Rows that see less than the item's others leave tiles out, but for their part in the barriers.
    const int tiles = item.tilesOf(p, 64 * group, 64 * group + 64);
    float o[kColumns][4] = {}, to[kMoving ? kColumns : 1][4] = {};
    float s[kScores][4], t[kMoving ? kScores : 1][4];
    SoftmaxRow state[2] = {{-INFINITY, 0, 0, 0}, {-INFINITY, 0, 0, 0}};

    // S and T, the last of this warpgroup's turn.
    const auto score = [&] {
      const Turn turn(used);
      hopper::mbarrierWait(&shared.keysFull[turn.stage], turn.parity);
#pragma unroll
      for (int n = 0; n < kScores; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          s[n][i] = 0;
          if constexpr (kMoving) t[n][i] = 0;
        }
      }
      hopper::holdRegisters(flat(s));
      if constexpr (kMoving) hopper::holdRegisters(flat(t));
      hopper::wgmmaFence();
      const unsigned char* const keys = shared.keys[turn.stage][0];
      hopper::multiplyTransposed<T, OfQueries, OfKeys>(flat(s), queries, 0, keys, false);
      if constexpr (kMoving) hopper::multiplyTransposed<T, OfQueries, OfKeys>(flat(t), tangents, 0, keys, false);
      if constexpr (kAll)
        hopper::multiplyTransposed<T, OfQueries, OfKeys>(flat(t), queries, 0, shared.keys[turn.stage][1], true);
      hopper::wgmmaCommit();
      passTurn();
      hopper::wgmmaWait<0>();
      hopper::holdRegisters(flat(s));
      if constexpr (kMoving) hopper::holdRegisters(flat(t));
      release(&shared.keysEmpty[turn.stage]);
    };

    hopper::mbarrierWait(&shared.queriesFull[group], items % 2);
    // A turn is the sums of one tile and the scores of the next.
    if (item.tiles > 0) takeTurn();
    for (int tile = 0; tile < tiles; ++tile, ++used) {
      score();
      const int firstKey = tile * kKeys, row = warpRow + lane / 4;
      const int visible[2] = {item.visibleTo(p, row) - firstKey, item.visibleTo(p, row + 8) - firstKey};
      advanceStrip<kMoving>(state, s, t, o, to, p.scale, scale2, item.visibleTo(p, warpRow) < firstKey + kKeys,
                            [&](int half) { return visible[half / 8]; });
      uint32_t weights[kSteps][4], moved[kMoving ? kSteps : 1][4];
      hopper::toOperand<T>(weights, flat(s));
      if constexpr (kMoving) hopper::toOperand<T>(moved, flat(t));
      const Turn turn(used);
      hopper::mbarrierWait(&shared.valuesFull[turn.stage], turn.parity);
      takeTurn();
      hopper::holdRegisters(flat(o)), hopper::holdRegisters(weights);
      if constexpr (kMoving) hopper::holdRegisters(flat(to)), hopper::holdRegisters(moved);
      hopper::wgmmaFence();
      const unsigned char* const values = shared.values[turn.stage][0];
      hopper::multiply<T, OfKeys>(flat(o), weights, values, true);
      if constexpr (kMoving) hopper::multiply<T, OfKeys>(flat(to), moved, values, true);
      if constexpr (kAll) hopper::multiply<T, OfKeys>(flat(to), weights, shared.values[turn.stage][1], true);
      hopper::wgmmaCommit();
      hopper::wgmmaWait<0>();
      hopper::holdRegisters(flat(o)), hopper::holdRegisters(weights);
      if constexpr (kMoving) hopper::holdRegisters(flat(to)), hopper::holdRegisters(moved);
      release(&shared.valuesEmpty[turn.stage]);
    }
    if (item.tiles > 0) passTurn();
    for (int tile = tiles; tile < item.tiles; ++tile, ++used) {
      const Turn turn(used);
      hopper::mbarrierWait(&shared.keysFull[turn.stage], turn.parity);
      release(&shared.keysEmpty[turn.stage]);
      hopper::mbarrierWait(&shared.valuesFull[turn.stage], turn.parity);
      release(&shared.valuesEmpty[turn.stage]);
      takeTurn();
      passTurn();
    }

    const int rows = p.queries - item.firstQuery;
    const int64_t statisticsAt = int64_t{item.head} * p.queries + item.firstQuery;
    const auto end = [&](auto half) {
      constexpr int kHalf = decltype(half)::value;
      const int row = warpRow + lane / 4 + 8 * kHalf;
      const RowStatistics x = endRow<kHalf, kMoving>(state[kHalf], o, to, item.length >= 0, item.visibleTo(p, row) > 0);
      if (lane % 4 != 0 || row >= rows) return;
      p.lse[statisticsAt + row] = x.lse;
      if (p.mu != nullptr) p.mu[statisticsAt + row] = x.mu;
    };
    end(std::integral_constant<int, 0>());
    end(std::integral_constant<int, 1>());

    // The results take the place of the queries, which the warpgroup has read.
    const auto meet = [&] { ptx::barrierSync<128>(kHopperOwn + group); };
    const auto store = [&](const CUtensorMap& map, unsigned char* tile, float(&x)[kColumns][4]) {
      uint32_t rounded[kColumns / 2][4];
      hopper::toOperand<T>(rounded, flat(x));
      hopper::storeOperand<OfQueries>(tile, 0, rounded);
      hopper::fenceProxyAsync();
      meet();
      if (!leads) return;
      hopper::tileStore<OfQueries>(
          &map, hopper::Box<4>{{0, item.firstQuery + 64 * group, item.headOfBatch, item.batch}}, tile);
      hopper::bulkCommit();
    };
    meet();
    store(p.o, queries, o);
    if constexpr (kMoving) {
      store(p.to, tangents, to);
    } else if (p.givenTo) {  // zeros, but for what is not finite
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) o[n][i] *= 0;
      }
      if (leads) hopper::bulkWaitRead<0>();
      meet();
      store(p.to, queries, o);
    }
    if (leads) {
      hopper::bulkWaitRead<0>();
      hopper::mbarrierArrive(&shared.queriesEmpty[group]);
    }
  }
  // The other's last pass.
  if (group == 0) takeTurn();
}

template <class T, class Tile, Tangents kTangents>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    attentionForwardHopperKernel(const __grid_constant__ HopperForwardParams p) {
  using Shared = HopperForwardShared<Tile, kTangents>;
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  if (threadIdx.x == 0) {
    constexpr int kWarps = 4 * Tile::kGroups;
    for (int group = 0; group < Tile::kGroups; ++group) {
      hopper::mbarrierInit(&shared.queriesFull[group], 1);
      hopper::mbarrierInit(&shared.queriesEmpty[group], 1);
    }
    for (int stage = 0; stage < Tile::kStages; ++stage) {
      hopper::mbarrierInit(&shared.keysFull[stage], 1);
      hopper::mbarrierInit(&shared.keysEmpty[stage], kWarps);
      hopper::mbarrierInit(&shared.valuesFull[stage], 1);
      hopper::mbarrierInit(&shared.valuesEmpty[stage], kWarps);
    }
    hopper::mbarrierInit(&shared.tail, 1);
    hopper::fenceMbarrierInit();
  }
  __syncthreads();
  // Registers that the producers leave to the consumers: 24 · 128 + 240 · 256 of 65536.
  if (threadIdx.x < 128) {
    hopper::decreaseRegisters<24>();
    const unsigned warp = threadIdx.x / 32;
    if (warp == 0)
      bringKeys<Tile, kTangents>(shared, p);
    else if (warp == 1)
      bringValues<Tile, kTangents>(shared, p);
    else if (warp == 2)
      bringQueries<Tile, kTangents>(shared, p);
  } else {
    hopper::increaseRegisters<240>();
    attendHopper<T, Tile, kTangents>(shared, p);
  }
}

// ---- the host's part ----

// [B, H, S, D] with the box of Tile's panels.
template <class Tile, class T>
CUtensorMap hopperTensorMap(const T* data, const AttentionGeometry& g, int64_t heads, int64_t tokens) {
  const auto of = [](int64_t x) { return static_cast<uint64_t>(x); };
  const hopper::TensorShape<4> shape{
      {of(g.dim), of(tokens), of(heads), of(g.batch)},
      {1, of(g.rowStride(heads)), of(g.headOffset(0, 1, heads, tokens)), of(g.headOffset(1, 0, heads, tokens))},
      {Tile::kPanelColumns, Tile::kRows, 1, 1}};
  CUtensorMap map;
  check(hopper::encodeTensorMap(map, data, shape, Tile::kSwizzle), "cuTensorMapEncodeTiled");
  return map;
}

template <class Element, class Tile, Tangents kTangents>
void launchForwardHopperTile(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  using T = TensorCore<Element>;
  using Shared = HopperForwardShared<Tile, kTangents>;
  const AttentionGeometry& g = call.geometry;
  const AttentionOperands& in = call.in;
  const auto mapOf = [&](auto tile, const Tensor& x, const Tensor& otherwise, int64_t heads, int64_t tokens) {
    const auto* const data = (x ? x : otherwise).data<const Element>();
    return hopperTensorMap<decltype(tile)>(reinterpret_cast<const T*>(data), g, heads, tokens);
  };
  const auto ofQueries = [&](const Tensor& x, const Tensor& otherwise) {
    return mapOf(typename Tile::OfQueries(), x, otherwise, g.queryHeads, g.queries);
  };
  const auto ofKeys = [&](const Tensor& x, const Tensor& otherwise) {
    return mapOf(typename Tile::OfKeys(), x, otherwise, g.keyHeads, g.keys);
  };
  HopperForwardParams p(call);
  p.q = ofQueries(in.q, {}), p.k = ofKeys(in.k, {}), p.v = ofKeys(in.v, {});
  p.tq = ofQueries(in.tq, in.q), p.tk = ofKeys(in.tk, in.k), p.tv = ofKeys(in.tv, in.v);
  p.o = ofQueries(out.o, {}), p.to = ofQueries(out.to, out.o);
  p.givenTq = bool(in.tq), p.givenTk = bool(in.tk), p.givenTv = bool(in.tv), p.givenTo = bool(out.to);
  p.lse = out.lse.data<float>();
  p.mu = out.mu ? out.mu.data<float>() : nullptr;
  p.allHeads = static_cast<int>(g.batch * g.queryHeads);
  p.tiles = (p.queries + Tile::kRows - 1) / Tile::kRows;
  // Without a mask a head's items are alike, and follow each other. What keys and values of some heads take of the L2
  // cache, at most.
  constexpr int64_t kTogetherBytes = int64_t{16} << 20;
  const int64_t bytes = (Shared::kAll ? 4 : 2) * g.keys * g.dim * static_cast<int64_t>(sizeof(T));
  p.together = !g.causal ? 1 : static_cast<int>(std::clamp<int64_t>(kTogetherBytes / bytes, 1, p.allHeads));

  const auto kernel = attentionForwardHopperKernel<T, Tile, kTangents>;
  constexpr int kBytes = sizeof(Shared);
  static_assert(kBytes <= 227 * 1024);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), "cudaFuncSetAttribute");
  const auto blocks = static_cast<unsigned>(std::min(p.tiles * p.allHeads, runtime.multiprocessors()));
  launchKernel(runtime, kernel, Grid{dim3(blocks), dim3(Tile::kThreads), kBytes}, p);
}

template <class Element, Tangents kTangents>
void launchForwardHopperSize(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  if (call.geometry.dim <= 64)
    launchForwardHopperTile<Element, HopperForwardTile<64, 128>, kTangents>(runtime, call, out);
  else if (call.geometry.dim <= 96)
    launchForwardHopperTile<Element, HopperForwardTile<96, 96>, kTangents>(runtime, call, out);
  else
    launchForwardHopperTile<Element, HopperForwardTile<128, 64>, kTangents>(runtime, call, out);
}

// Element is BFloat16 or Float16.
template <class Element>
void launchAttentionForwardHopper(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  const AttentionOperands& in = call.in;
  if (in.tk || in.tv)
    launchForwardHopperSize<Element, Tangents::All>(runtime, call, out);
  else if (in.tq)
    launchForwardHopperSize<Element, Tangents::Queries>(runtime, call, out);
  else
    launchForwardHopperSize<Element, Tangents::None>(runtime, call, out);
}

}  // namespace flowmap::cuda
