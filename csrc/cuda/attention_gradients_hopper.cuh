// Attention's backward for Hopper in one kernel, what its kernels share: a block owns 128 keys, and its consumers
// give the four gradients of keys and values, as attention_dkv_hopper.cuh does, and of each tile of queries the part
// of gq and gtq that these keys have, which a sink takes. Heads of up to 64, all tangents.
#pragma once

#include <cmath>

#include "cuda/attention_hopper_roles.cuh"
#include "cuda/ptx/barrier.cuh"

namespace flowmap::cuda {

template <int kDim_, int kQueries_, int kStages_>
struct HopperGradientsTile {
  static constexpr int kDim = kDim_, kQueries = kQueries_, kStages = kStages_;
  static constexpr int kRows = 64 * kConsumerWarpgroups, kThreads = kHopperThreads;
  using Own = hopper::Tile<kRows, kDim>;
  using Other = hopper::Tile<kQueries, kDim>;
  // gS and gT of a tile, as the operands of what is summed over keys.
  using Weights = hopper::Tile<kQueries, kRows>;
  static_assert(kDim == 64);  // the 64 rows of an accumulator of gqᵀ
};

// What the producer says of each tile: how many of the block's keys the first of its queries sees, and each next one
// one more; how many of these keys count; the query head, through the batch, and the first query, for the sink.
struct alignas(16) GradientsTileFacts {
  int seen, counting, head, firstQuery;
};

template <class Tile>
struct HopperGradientsShared {
  static constexpr int kOwn = Tile::Own::kBytes, kOther = Tile::Other::kBytes, kWeights = Tile::Weights::kBytes;
  static constexpr int kOwnBytes = 4 * kOwn, kStage = 4 * kOther;
  static constexpr int kK = 0, kTk = kOwn, kV = 2 * kOwn, kTv = 3 * kOwn;
  static constexpr int kQ = kOwnBytes, kG = kQ + kOther, kTq = kQ + 2 * kOther, kH = kQ + 3 * kOther;
  // gS and gT, in two buffers in turn: one barrier of the consumers for each tile is enough.
  static constexpr int kGs = kQ + Tile::kStages * kStage, kGt = kGs + kWeights, kTurn = 2 * kWeights;
  // Of each stage, a tile's facts and what its queries know: lse in base 2, delta, mu and a.
  static constexpr int kKnown = kGs + 2 * kTurn, kFacts = static_cast<int>(sizeof(GradientsTileFacts));
  static constexpr int kKnownStage = kFacts + 4 * Tile::kQueries * static_cast<int>(sizeof(float));
  static constexpr int kBytes = kKnown + Tile::kStages * kKnownStage;

  static __device__ __forceinline__ GradientsTileFacts* facts(unsigned char* tiles, int stage) {
    return reinterpret_cast<GradientsTileFacts*>(tiles + kKnown + stage * kKnownStage);
  }
  static __device__ __forceinline__ float* known(unsigned char* tiles, int stage) {
    return reinterpret_cast<float*>(tiles + kKnown + stage * kKnownStage + kFacts);
  }
};

// By a warp. Keys and values that do not count are operands of other rows' gradients: whatever they are, they become
// zero.
template <class Tile, class T>
__device__ __forceinline__ void loadOwnKeys(const HopperBackwardParams<T>& p, TileOrigin origin, int length,
                                            unsigned char* tiles, RoleBarriers<Tile::kStages>& barriers) {
  using Shared = HopperGradientsShared<Tile>;
  using Own = typename Tile::Own;
  const int counting = length - origin.row;
  const bool issues = threadIdx.x % 32 == 0, ragged = counting < Tile::kRows && length < p.keys;
  if (issues) {
    hopper::Mbarrier* const barrier = ragged ? &barriers.landed : &barriers.own;
    const auto load = [&](int offset, const CUtensorMap& map, const T* x) {
      loadOperand<Own>(tiles + offset, map, x, origin, p.keys, barrier);
    };
    hopper::mbarrierArriveExpect(barrier, Shared::kOwnBytes);
    load(Shared::kK, p.maps.k, p.k), load(Shared::kTk, p.maps.tk, p.tk);
    load(Shared::kV, p.maps.v, p.v), load(Shared::kTv, p.maps.tv, p.tv);
  }
  if (!ragged) return;
  __syncwarp();
  hopper::mbarrierWait(&barriers.landed, 0);
#pragma unroll 1
  for (int at = 0; at < Shared::kOwnBytes; at += Shared::kOwn) hopper::clearRows<Own>(tiles + at, counting);
  hopper::fenceProxyAsync();
  __syncwarp();
  if (issues) hopper::mbarrierArrive(&barriers.own);
}

// The named barrier of the consumers.
constexpr int kGradientsBarrier = 1;

// A warpgroup's 64 keys of weights into [queries, keys], whose queries are rows.
template <class Weights, int kSteps>
__device__ __forceinline__ void storeTransposed(unsigned char* tile, int warpRow, const uint32_t (&a)[kSteps][4]) {
  const int lane = threadIdx.x % 32, query = lane / 16 * 8 + lane % 8, key = warpRow + lane / 8 % 2 * 8;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    ptx::stmatrix<true>(tile + Weights::chunk(16 * step + query, key), a[step]);
  }
}

// x = Aᵀ W, or x += that: the own tile at `atA`, by columns, and weights at `atW`, by rows. Issues only.
template <class T, class Tile, bool kAdds>
__device__ __forceinline__ void issueQueryGradient(float (&x)[Tile::kQueries / 2], uint64_t own, int atA,
                                                   uint64_t weights, int atW) {
  using hopper::Major;
#pragma unroll
  for (int k = 0; k < Tile::kRows; k += 16) {
    const int onA = k * Tile::Own::kSwizzle, onW = bytesToColumn<typename Tile::Weights>(k);
    hopper::wgmma<T, Major::mn, Major::k>(x, advanced(own, atA + onA), advanced(weights, atW + onW), kAdds || k > 0);
  }
}

// A thread's part of the gradients of its warpgroup's 64 keys.
template <class Tile>
struct HopperKeyGradients {
  float gk[Tile::kDim / 2] = {}, gtk[Tile::kDim / 2] = {}, gv[Tile::kDim / 2] = {}, gtv[Tile::kDim / 2] = {};
};

// By the threads of both warpgroups, which bring the same `tile` and their own `sink`: the tile-th tile of queries that
// the producer brings; where it belongs is in its facts.
//   sink.add(facts, tangent, x)
// is given, by one warpgroup for gq and by the other for gtq, the tile's unscaled part: element j of a thread is that
// of column accumulatorRow(j) of the head and of query accumulatorColumn(j) of the tile. At that time the tile is done
// with, and the weights of the next are not written before all have returned from the one before. Where Sink::kStarts,
//   sink.start(facts, tangent, x)
// says what the part is added to.
template <class T, class Tile, class Sink>
__device__ __forceinline__ void consumeGradientsTile(float scale, unsigned char* tiles,
                                                     RoleBarriers<Tile::kStages>& barriers, int tile, Sink& sink,
                                                     HopperKeyGradients<Tile>& out) {
  using Shared = HopperGradientsShared<Tile>;
  using Own = typename Tile::Own;
  using Other = typename Tile::Other;
  using Weights = typename Tile::Weights;
  constexpr int kQueries = Tile::kQueries, kScores = kQueries / 2, kSteps = kQueries / 16;
  const int consumer = static_cast<int>(threadIdx.x) - kWarpgroupThreads, lane = threadIdx.x % 32;
  const int warpRow = consumer / 32 * 16;
  // The same in a warp, as the compiler is to know.
  const int group = __shfl_sync(0xffffffffu, consumer / kWarpgroupThreads, 0), groupRow = 64 * group;
  const uint64_t own = Own::rowOperand(tiles, groupRow, 0), ownColumns = Own::columnOperand(tiles, 0, 0);
  const uint64_t rows = Other::rowOperand(tiles, 0, 0), columns = Other::columnOperand(tiles, 0, 0);
  const uint64_t weightRows = Weights::rowOperand(tiles, 0, 0);
  const hopper::RingTurn<Tile::kStages> at(static_cast<uint32_t>(tile));
  const int stage = at.stage * Shared::kStage, turn = tile % 2 * Shared::kTurn;
  hopper::mbarrierWait(&barriers.full[at.stage], at.parity);
  float s[kScores], t[kScores], d[kScores], r[kScores];
  const uint64_t queries = advanced(rows, stage), others = advanced(columns, stage);
  hopper::wgmmaFence();
  issueScores<T, Own, Other, true, true>(s, t, own, Shared::kK, Shared::kTk, queries, Shared::kQ, Shared::kTq);
  hopper::wgmmaCommit();
  issueScores<T, Own, Other, true, true>(d, r, own, Shared::kV, Shared::kTv, queries, Shared::kH, Shared::kG);
  hopper::wgmmaCommit();
  hopper::wgmmaWait<1>();
  hopper::holdRegisters(s);
  hopper::holdRegisters(t);
  const float* const known = Shared::known(tiles, at.stage);
  const auto pairOf = [&](int kind, int column) {
    return *reinterpret_cast<const float2*>(known + lane % 4 * 2 + kind * kQueries + column);
  };
  {
    const GradientsTileFacts facts = *Shared::facts(tiles, at.stage);
    const int seen = facts.seen - warpRow, counting = facts.counting - warpRow;
    const bool masked = min(seen, counting) < 16;
#pragma unroll
    for (int column = 0; column < kQueries; column += 8) {
      const float2 lse2 = pairOf(0, column), mu = pairOf(2, column);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int j = column / 2 + i, second = i % 2;
        const QueryRow query{second ? lse2.y : lse2.x, second ? mu.y : mu.x, 0, 0};
        const int sees = min(seen + column + lane % 4 * 2 + second, counting);
        weigh<true>(s[j], &t[j], query, scale, !masked || lane / 4 + i / 2 * 8 < sees);
      }
    }
  }
  uint32_t weights[kSteps][4], moved[kSteps][4];
  hopper::toOperand<T>(weights, s);
  hopper::toOperand<T>(moved, t);
  hopper::holdRegisters(out.gv);
  hopper::holdRegisters(out.gtv);
  hopper::wgmmaFence();
  issueGradients<T, Other, true, true>(out.gv, out.gtv, moved, weights, others, Shared::kH, Shared::kG);
  hopper::wgmmaCommit();
  hopper::wgmmaWait<1>();
  hopper::holdRegisters(r);
  hopper::holdRegisters(d);
#pragma unroll
  for (int column = 0; column < kQueries; column += 8) {
    const float2 delta = pairOf(1, column), a = pairOf(3, column);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int j = column / 2 + i, second = i % 2;
      const QueryRow query{0, 0, second ? a.y : a.x, second ? delta.y : delta.x};
      differentiate<true>(s[j], &t[j], &d[j], r[j], query);
    }
  }
  uint32_t gs[kSteps][4], gt[kSteps][4];
  hopper::toOperand<T>(gs, r);
  hopper::toOperand<T>(gt, d);
  storeTransposed<Weights>(tiles + Shared::kGs + turn, warpRow, gs);
  storeTransposed<Weights>(tiles + Shared::kGt + turn, warpRow, gt);
  hopper::fenceProxyAsync();
  hopper::holdRegisters(out.gk);
  hopper::holdRegisters(out.gtk);
  hopper::wgmmaFence();
  issueGradients<T, Other, true, true>(out.gk, out.gtk, gs, gt, others, Shared::kQ, Shared::kTq);
  hopper::wgmmaCommit();
  const GradientsTileFacts facts = *Shared::facts(tiles, at.stage);
  // gq is twice the work of gtq: in turns.
  const bool tangent = (tile + group) % 2 != 0;
  float x[kScores];
  if constexpr (Sink::kStarts) sink.start(facts, tangent, x);
  ptx::barrierSync<kConsumerWarpgroups * kWarpgroupThreads>(kGradientsBarrier);
  if constexpr (Sink::kStarts) hopper::holdRegisters(x);
  const uint64_t shared = advanced(weightRows, turn);
  hopper::wgmmaFence();
  issueQueryGradient<T, Tile, Sink::kStarts>(x, ownColumns, Shared::kK, shared, tangent ? Shared::kGt : Shared::kGs);
  if (!tangent) issueQueryGradient<T, Tile, true>(x, ownColumns, Shared::kTk, shared, Shared::kGt);
  hopper::wgmmaCommit();
  hopper::wgmmaWait<1>();
  hopper::holdRegisters(weights);
  hopper::holdRegisters(moved);
  hopper::holdRegisters(gs);
  hopper::holdRegisters(gt);
  hopper::holdRegisters(out.gv);
  hopper::holdRegisters(out.gtv);
  hopper::holdRegisters(out.gk);
  hopper::holdRegisters(out.gtk);
  releaseStage(&barriers.empty[at.stage]);
  hopper::wgmmaWait<0>();
  hopper::holdRegisters(x);
  sink.add(facts, tangent, x);
}

// `place` says where the keys are.
template <class T, class Tile, class Place>
__device__ __forceinline__ void storeKeyGradients(const HopperBackwardParams<T>& p, const Place& place,
                                                  unsigned char* tiles, HopperKeyGradients<Tile>& out) {
  using Shared = HopperGradientsShared<Tile>;
  const int lane = threadIdx.x % 32, warpRow = (static_cast<int>(threadIdx.x) - kWarpgroupThreads) / 32 * 16;
  const int left = p.keys - place.firstKey - warpRow, counting = place.length - place.firstKey - warpRow;
  const int64_t keyAt = p.keyRows.at(place.batch, place.keyHead, place.firstKey + warpRow) * p.dim;
  const auto store = [&](T* gradient, float(&x)[Tile::kDim / 2], float scale) {
    if (gradient == nullptr) return;
#pragma unroll
    for (int j = 0; j < Tile::kDim / 2; ++j) {
      // Keys that do not count have no gradient; what an unknown number of keys gives is unknown.
      const bool counts = lane / 4 + j / 2 % 2 * 8 < counting;
      x[j] = place.length < 0 ? NAN : counts ? x[j] * scale : 0;
    }
    // Through the values, which no other warp reads.
    storeAccumulators<typename Tile::Own>(tiles + Shared::kV, warpRow, x, gradient + keyAt, p.keyRow, left, p.dim);
  };
  store(p.gk, out.gk, p.scale);
  store(p.gtk, out.gtk, p.scale);
  store(p.gv, out.gv, 1);
  store(p.gtv, out.gtv, 1);
}

// By the threads of both warpgroups: work.tiles() is how many tiles the producer brings, in whatever order, and
// work.keyPlace(p) says where the gradients of keys and values go.
template <class T, class Tile, class Work, class Sink>
__device__ __forceinline__ void consumeGradients(const HopperBackwardParams<T>& p, const Work& work,
                                                 unsigned char* tiles, RoleBarriers<Tile::kStages>& barriers,
                                                 Sink& sink) {
  const int count = work.tiles();
  HopperKeyGradients<Tile> out;
  if (count > 0) hopper::mbarrierWait(&barriers.own, 0);
  for (int tile = 0; tile < count; ++tile) {
    consumeGradientsTile<T, Tile>(p.scale, tiles, barriers, tile, sink, out);
  }
  // All of it once more: registers are worth more in the loop.
  storeKeyGradients<T, Tile>(p, work.keyPlace(p), tiles, out);
}

}  // namespace flowmap::cuda
