// All gradients of attention in one kernel for Hopper, of heads wider than 64, with tangents: four gradients of keys
// fill the registers of two warpgroups, so that each has two of 64 keys and does half of the rest. gq and gtq are added
// up in float32 by atomics, in no given order.
#pragma once

#include "cuda/attention_split_hopper_roles.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {

// S and T, P and tP; gv and gtv; and of the tile before, whose differences have come meanwhile, gq.
template <class T, class Tile>
__device__ __forceinline__ void consumeWeights(const HopperBackwardParams<T>& p, unsigned char* tiles,
                                               SplitBlock<Tile::kStages>& block) {
  using Shared = SplitShared<Tile>;
  using Own = typename Tile::Own;
  using Other = typename Tile::Other;
  constexpr int kColumns = Tile::kColumns, kQueries = Tile::kQueries, kScores = kQueries / 2, kSteps = kQueries / 16;
  const int lane = threadIdx.x % 32;
  // The same in a warp, as the compiler is to know.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) % kWarpgroupThreads / 32, 0);
  const uint64_t own = Own::rowOperand(tiles, 0, 0), keys = Own::columnOperand(tiles, 0, 0);
  const uint64_t rows = Other::rowOperand(tiles, 0, 0), columns = Other::columnOperand(tiles, 0, 0);
  const uint64_t differences = Tile::Scores::columnOperand(tiles, 0, 0);
  float gv[kColumns] = {}, gtv[kColumns] = {};
  const SplitWork<Tile> work(p);
  const int count = work.tilesOfHead * p.group, counting = work.counting - 16 * warp;
  if (count > 0) hopper::mbarrierWait(&block.keys, 0);
  for (int tile = 0; tile < count; ++tile) {
    const hopper::RingTurn<Tile::kStages> at(static_cast<uint32_t>(tile));
    const int stage = at.stage * Shared::kStage;
    hopper::mbarrierWait(&block.full[at.stage], at.parity);
    uint32_t weights[kSteps][4], moved[kSteps][4];
    {
      float s[kScores], t[kScores];
      hopper::wgmmaFence();
      issueScores<T, Own, Other, true, true>(s, t, own, Shared::kK, Shared::kTk, advanced(rows, stage), Shared::kQ,
                                             Shared::kTq);
      hopper::wgmmaCommit();
      hopper::wgmmaWait<0>();
      hopper::holdRegisters(s);
      hopper::holdRegisters(t);
      const float* const known =
          reinterpret_cast<const float*>(tiles + Shared::kKnown) + at.stage * Shared::kKnownFloats + lane % 4 * 2;
      const int seen = block.seen[at.stage] - 16 * warp;
      const bool masked = min(seen, counting) < 16;
#pragma unroll
      for (int column = 0; column < kQueries; column += 8) {
        const float2 lse2 = *reinterpret_cast<const float2*>(known + column);
        const float2 mu = *reinterpret_cast<const float2*>(known + 2 * kQueries + column);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int j = column / 2 + i, second = i % 2;
          const QueryRow query{second ? lse2.y : lse2.x, second ? mu.y : mu.x, 0, 0};
          const bool visible = !masked || lane / 4 + i / 2 * 8 < min(seen + column + lane % 4 * 2 + second, counting);
          weigh<true>(s[j], &t[j], query, p.scale, visible);
        }
      }
      hopper::toOperand<T>(weights, s);
      hopper::toOperand<T>(moved, t);
    }
    // With the last differences the other warpgroup has read the last weights.
    uint4* const handed = reinterpret_cast<uint4*>(tiles + Shared::kP) + warp * 32 * kSteps + lane;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const auto& w = weights[step];
      const auto& tw = moved[step];
      handed[32 * step] = uint4{w[0], w[1], w[2], w[3]};
      handed[32 * step + Shared::kScores / 16] = uint4{tw[0], tw[1], tw[2], tw[3]};
    }
    releaseStage(&block.weightsFull[warp]);
    hopper::holdRegisters(gv);
    hopper::holdRegisters(gtv);
    hopper::wgmmaFence();
    issueGradients<T, Other, true, true>(gv, gtv, moved, weights, advanced(columns, stage), Shared::kH, Shared::kG);
    hopper::wgmmaCommit();
    const int part = block.part[at.stage];
    hopper::wgmmaWait<0>();
    hopper::holdRegisters(weights);
    hopper::holdRegisters(moved);
    hopper::holdRegisters(gv);
    hopper::holdRegisters(gtv);
    releaseStage(&block.empty[at.stage]);
    hopper::mbarrierWait(&block.differencesFull, tile & 1);
    float gq[kColumns];
    hopper::wgmmaFence();
    issueQueryGradient<T, Tile>(gq, differences, keys, Shared::kGs, Shared::kK, false);
    issueQueryGradient<T, Tile>(gq, differences, keys, Shared::kGt, Shared::kTk, true);
    hopper::wgmmaCommit();
    hopper::wgmmaWait<0>();
    hopper::holdRegisters(gq);
    releaseStage(&block.differencesEmpty);
    addPart<Tile>(p.gqSums, part, gq);
  }
  // With the last differences the other warpgroup has read the values for the last time.
  storeOwn<T, Tile>(p, tiles + Shared::kV, p.gv, gv, 1);
  storeOwn<T, Tile>(p, tiles + Shared::kV, p.gtv, gtv, 1);
}

// gtP and R; with the weights gT and gS; gk, gtk and gtq.
template <class T, class Tile>
__device__ __forceinline__ void consumeDifferences(const HopperBackwardParams<T>& p, unsigned char* tiles,
                                                   SplitBlock<Tile::kStages>& block) {
  using Shared = SplitShared<Tile>;
  using Own = typename Tile::Own;
  using Other = typename Tile::Other;
  constexpr int kColumns = Tile::kColumns, kQueries = Tile::kQueries, kScores = kQueries / 2, kSteps = kQueries / 16;
  const int lane = threadIdx.x % 32;
  // The same in a warp, as the compiler is to know.
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) % kWarpgroupThreads / 32, 0);
  const uint64_t own = Own::rowOperand(tiles, 0, 0), keys = Own::columnOperand(tiles, 0, 0);
  const uint64_t rows = Other::rowOperand(tiles, 0, 0), columns = Other::columnOperand(tiles, 0, 0);
  const uint64_t differences = Tile::Scores::columnOperand(tiles, 0, 0);
  float gk[kColumns] = {}, gtk[kColumns] = {};
  const SplitWork<Tile> work(p);
  const int count = work.tilesOfHead * p.group;
  if (count > 0) hopper::mbarrierWait(&block.keys, 0), hopper::mbarrierWait(&block.values, 0);
  for (int tile = 0; tile < count; ++tile) {
    const hopper::RingTurn<Tile::kStages> at(static_cast<uint32_t>(tile));
    const int stage = at.stage * Shared::kStage;
    const uint32_t parity = tile & 1;
    hopper::mbarrierWait(&block.full[at.stage], at.parity);
    uint32_t gs[kSteps][4], gt[kSteps][4];
    {
      float d[kScores], r[kScores];
      hopper::wgmmaFence();
      issueScores<T, Own, Other, true, true>(d, r, own, Shared::kV, Shared::kTv, advanced(rows, stage), Shared::kH,
                                             Shared::kG);
      hopper::wgmmaCommit();
      hopper::wgmmaWait<0>();
      hopper::holdRegisters(d);
      hopper::holdRegisters(r);
      const float* const known =
          reinterpret_cast<const float*>(tiles + Shared::kKnown) + at.stage * Shared::kKnownFloats + lane % 4 * 2;
      const uint4* const handed = reinterpret_cast<const uint4*>(tiles + Shared::kP) + warp * 32 * kSteps + lane;
      hopper::mbarrierWait(&block.weightsFull[warp], parity);
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const uint4 w = handed[32 * step], tw = handed[32 * step + Shared::kScores / 16];
        const uint32_t ws[4] = {w.x, w.y, w.z, w.w}, tws[4] = {tw.x, tw.y, tw.z, tw.w};
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int column = 16 * step + 8 * half;
          const float2 delta = *reinterpret_cast<const float2*>(known + kQueries + column);
          const float2 a = *reinterpret_cast<const float2*>(known + 3 * kQueries + column);
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int word = 2 * half + i, j = 8 * step + 2 * word;
            const float2 s = unpackBits<T>(ws[word]), t = unpackBits<T>(tws[word]);
            differentiate<true>(s.x, &t.x, &d[j], r[j], QueryRow{0, 0, a.x, delta.x});
            differentiate<true>(s.y, &t.y, &d[j + 1], r[j + 1], QueryRow{0, 0, a.y, delta.y});
            gs[step][word] = hopper::roundPair<T>(r[j], r[j + 1]);
            gt[step][word] = hopper::roundPair<T>(d[j], d[j + 1]);
          }
        }
      }
    }
    hopper::mbarrierWait(&block.differencesEmpty, parity ^ 1);
    hopper::storeOperand<typename Tile::Scores>(tiles + Shared::kGs, 0, gs);
    hopper::storeOperand<typename Tile::Scores>(tiles + Shared::kGt, 0, gt);
    hopper::fenceProxyAsync();
    releaseStage(&block.differencesFull);
    hopper::holdRegisters(gk);
    hopper::holdRegisters(gtk);
    hopper::wgmmaFence();
    issueGradients<T, Other, true, true>(gk, gtk, gs, gt, advanced(columns, stage), Shared::kQ, Shared::kTq);
    hopper::wgmmaCommit();
    const int part = block.part[at.stage];
    hopper::wgmmaWait<0>();
    hopper::holdRegisters(gs);
    hopper::holdRegisters(gt);
    hopper::holdRegisters(gk);
    hopper::holdRegisters(gtk);
    releaseStage(&block.empty[at.stage]);
    hopper::mbarrierWait(&block.differencesFull, parity);
    float gtq[kColumns];
    hopper::wgmmaFence();
    issueQueryGradient<T, Tile>(gtq, differences, keys, Shared::kGt, Shared::kK, false);
    hopper::wgmmaCommit();
    hopper::wgmmaWait<0>();
    hopper::holdRegisters(gtq);
    releaseStage(&block.differencesEmpty);
    addPart<Tile>(p.gtqSums, part, gtq);
  }
  // All of this warpgroup have read the last weights before it had the last differences.
  storeOwn<T, Tile>(p, tiles + Shared::kP, p.gk, gk, p.scale);
  storeOwn<T, Tile>(p, tiles + Shared::kP, p.gtk, gtk, p.scale);
}

template <class T, class Tile>
__global__ void __launch_bounds__(kHopperThreads, 1)
    attentionSplitHopperKernel(const __grid_constant__ HopperBackwardParams<T> p) {
  extern __shared__ __align__(1024) unsigned char hopperTiles[];
  __shared__ SplitBlock<Tile::kStages> block;
  if (threadIdx.x == 0) block.init();
  __syncthreads();
  if (threadIdx.x < kWarpgroupThreads) {
    hopper::decreaseRegisters<kProducerRegisters>();
    if (threadIdx.x < 32) produceSplit<T, Tile>(p, SplitWork<Tile>(p), hopperTiles, block);
  } else {
    hopper::increaseRegisters<kConsumerRegisters>();
    if (threadIdx.x < 2 * kWarpgroupThreads)
      consumeWeights<T, Tile>(p, hopperTiles, block);
    else
      consumeDifferences<T, Tile>(p, hopperTiles, block);
  }
}

// The sums of addPart, scaled and rounded; NaN where it is unknown what queries see.
template <class T, class Tile>
__global__ void __launch_bounds__(kThreads)
    finishPartsKernel(const __grid_constant__ BackwardParams<T> p, int64_t parts) {
  constexpr int kChunks = Tile::kDim / 8, kPairs = Tile::kQueries / 2;
  const int tiles = SplitWork<Tile>::allTiles(p);
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < parts * kPairs * kChunks;
       i += int64_t{gridDim.x} * kThreads) {
    // Two rows, 8 apart, whose chunks four neighbouring threads had.
    const int chunk = static_cast<int>(i % kChunks), pair = static_cast<int>(i / kChunks % kPairs);
    const int64_t part = i / (kPairs * kChunks);
    const int head = static_cast<int>(part / tiles), row = static_cast<int>(part % tiles) * Tile::kQueries;
    const int first = row + pair / 8 * 16 + pair % 8;
    if (chunk * 8 >= p.dim) continue;
    float factor = p.scale;
    if (p.keyLengths != nullptr) {
      const int length = p.keyLengths[head / p.heads];
      if (length < 0 || length > p.keys) factor = NAN;
    }
    const int64_t from = part * Tile::kPart + (chunk * kWarpgroupThreads + pair * 4) * 4;
    const int64_t to = p.queryRows.at(head / p.heads, head % p.heads, first) * p.dim + chunk * 8;
    const auto finish = [&](T* gradient, const float* sums) {
      if (sums == nullptr) return;
      uint32_t upper[4], lower[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float4 x = *reinterpret_cast<const float4*>(sums + from + 4 * j);
        upper[j] = hopper::roundPair<T>(x.x * factor, x.y * factor);
        lower[j] = hopper::roundPair<T>(x.z * factor, x.w * factor);
      }
      const auto write = [&](int after, const uint32_t(&x)[4]) {
        if (first + after >= p.queries) return;
        *reinterpret_cast<uint4*>(gradient + to + after * p.queryRow) = uint4{x[0], x[1], x[2], x[3]};
      };
      write(0, upper), write(8, lower);
    };
    finish(p.gq, p.gqSums), finish(p.gtq, p.gtqSums);
  }
}

// After a and delta are known.
template <int kDim, class T>
void launchSplit(const Runtime& runtime, Device& device, HopperBackwardParams<T> p, int64_t heads) {
  using Tile = SplitTile<kDim>;
  constexpr int kBytes = SplitShared<Tile>::kBytes;
  static_assert(kBytes + 1024 <= kHopperShared);
  const int64_t parts = heads * SplitWork<Tile>::allTiles(p), size = parts * Tile::kPart;
  const int64_t count = (p.gq != nullptr ? 1 : 0) + (p.gtq != nullptr ? 1 : 0);
  const Scratch<float> sums(device, count * size);
  check(cudaMemsetAsync(sums.data(), 0, count * size * sizeof(float), runtime.stream()), "cudaMemsetAsync");
  p.gqSums = p.gq != nullptr ? sums.data() : nullptr;
  p.gtqSums = p.gtq != nullptr ? sums.data() + (count - 1) * size : nullptr;
  encodeMaps<Moving::All, typename Tile::Other, typename Tile::Own>(p, heads / p.heads);
  launchHeads<Tile>(runtime, attentionSplitHopperKernel<T, Tile>, kBytes, p, p.keys, heads / p.group);
  const Grid grid = gridFor(runtime, parts * Tile::kPart / 16);
  launchKernel(runtime, finishPartsKernel<T, Tile>, grid, static_cast<const BackwardParams<T>&>(p), parts);
}

}  // namespace flowmap::cuda
