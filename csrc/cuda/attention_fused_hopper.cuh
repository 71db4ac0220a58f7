// Attention's backward on Hopper where sums may have any order, for heads of up to 64 with all tangents: one kernel for
// the gradients of keys, values and queries. Those of the queries are summed in float32 in global memory, as they lie
// in registers; a small kernel scales, rounds and orders them.
#pragma once

#include <algorithm>
#include <cmath>

#include "cuda/attention_gradients_hopper.cuh"
#include "cuda/launch.cuh"
#include "cuda/ptx/reduce.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {

// Where the sums of a tile of queries lie: 16 bytes of each thread of a warpgroup side by side.
template <class Tile>
struct QuerySums {
  static constexpr int kTileFloats = Tile::kQueries * Tile::kDim;

  static __host__ __device__ int tilesOfHead(int queries) { return (queries + Tile::kQueries - 1) / Tile::kQueries; }
  static __host__ __device__ int64_t count(int64_t heads, int queries) {
    return heads * tilesOfHead(queries) * kTileFloats;
  }
};

// What a block has to do: its keys, and the tiles of queries of which one sees a key, of all the query heads that share
// the block's key head.
template <class Tile>
struct FusedHopperWork : HeadPlace {
  int keyHead, firstKey, past, first, tilesOfHead, group;

  __device__ __forceinline__ explicit FusedHopperWork(const FusedHeads& p)
      : HeadPlace(p, p.heads / p.group),
        keyHead(ofBatch),
        firstKey(static_cast<int>(blockIdx.x) * Tile::kRows),
        // Query i sees the keys up to i + past, where causal.
        past(p.keys - p.queries),
        first(p.causal ? max(0, firstKey - past) / Tile::kQueries : 0),
        tilesOfHead(firstKey < length ? max(0, QuerySums<Tile>::tilesOfHead(p.queries) - first) : 0),
        group(p.group) {}

  __device__ __forceinline__ int tiles() const { return tilesOfHead * group; }
  __device__ __forceinline__ FusedHopperWork keyPlace(const FusedHeads& p) const { return FusedHopperWork(p); }
  __device__ __forceinline__ GradientsTileFacts factsOf(const FusedHeads& p, int tile) const {
    const int query = (first + tile % tilesOfHead) * Tile::kQueries;
    return {p.causal ? query + past + 1 - firstKey : Tile::kRows, length - firstKey, head * group + tile / tilesOfHead,
            query};
  }
};

template <class T, class Tile>
struct FusedHopperSink {
  static constexpr bool kStarts = false;
  const BackwardParams<T>& p;

  __device__ __forceinline__ void add(const GradientsTileFacts& facts, bool tangent,
                                      const float (&x)[Tile::kQueries / 2]) const {
    float* const sums = tangent ? p.gtqSums : p.gqSums;
    if (sums == nullptr) return;
    using Sums = QuerySums<Tile>;
    const int tile = facts.head * Sums::tilesOfHead(p.queries) + facts.firstQuery / Tile::kQueries;
    float* const to = sums + int64_t{tile} * Sums::kTileFloats + threadIdx.x % kWarpgroupThreads * 4;
#pragma unroll
    for (int j = 0; j < Tile::kQueries / 2; j += 4) {
      ptx::addToGlobal(to + j * kWarpgroupThreads, x[j], x[j + 1], x[j + 2], x[j + 3]);
    }
  }
};

// By a warp.
template <class T, class Tile>
__device__ __forceinline__ void produceGradients(const HopperBackwardParams<T>& p, const FusedHopperWork<Tile>& work,
                                                 unsigned char* tiles, RoleBarriers<Tile::kStages>& barriers) {
  using Shared = HopperGradientsShared<Tile>;
  using Other = typename Tile::Other;
  constexpr int kQueries = Tile::kQueries;
  const int lane = threadIdx.x % 32, count = work.tiles();
  if (count > 0) loadOwnKeys<Tile>(p, {work.firstKey, work.keyHead, work.batch}, work.length, tiles, barriers);
  for (int tile = 0; tile < count; ++tile) {
    const hopper::RingTurn<Tile::kStages> at(static_cast<uint32_t>(tile));
    const GradientsTileFacts facts = work.factsOf(p, tile);
    unsigned char* const stage = tiles + at.stage * Shared::kStage;
    hopper::Mbarrier* const full = &barriers.full[at.stage];
    hopper::mbarrierWait(&barriers.empty[at.stage], at.parity ^ 1);
    if (lane == 0) {
      const TileOrigin origin{facts.firstQuery, facts.head - work.batch * p.heads, work.batch};
      loadQueries<Shared, Other, true>(p, stage, origin, full);
      *Shared::facts(tiles, at.stage) = facts;
    }
    const int64_t from = int64_t{facts.head} * p.queries + facts.firstQuery;
    loadStatistics<kQueries, true>(p, from, p.queries - facts.firstQuery, Shared::known(tiles, at.stage));
    __syncwarp();
    if (lane == 0) hopper::mbarrierArrive(full);
  }
}

template <class T, class Tile>
__global__ void __launch_bounds__(kHopperThreads, 1)
    attentionFusedHopperKernel(const __grid_constant__ HopperBackwardParams<T> p) {
  extern __shared__ __align__(1024) unsigned char hopperTiles[];
  __shared__ RoleBarriers<Tile::kStages> barriers;
  const FusedHopperWork<Tile> work(p);
  if (threadIdx.x == 0) barriers.init();
  __syncthreads();
  if (threadIdx.x < kWarpgroupThreads) {
    hopper::decreaseRegisters<kProducerRegisters>();
    if (threadIdx.x < 32) produceGradients<T, Tile>(p, work, hopperTiles, barriers);
  } else {
    hopper::increaseRegisters<kConsumerRegisters>();
    FusedHopperSink<T, Tile> sink{p};
    consumeGradients<T, Tile>(p, work, hopperTiles, barriers, sink);
  }
}

// The sums of a tile of queries a block and turn, scaled and rounded; NaN where it is unknown what queries see.
template <class T, class Tile>
__global__ void __launch_bounds__(kWarpgroupThreads)
    finishFusedHopperKernel(const __grid_constant__ BackwardParams<T> p, int tiles) {
  constexpr int kColumns = Tile::kDim, kChunks = kColumns / 8;
  using Sums = QuerySums<Tile>;
  __shared__ __align__(16) T rows[Tile::kQueries][kColumns + 8];
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles; tile += static_cast<int>(gridDim.x)) {
    const int head = tile / Sums::tilesOfHead(p.queries), batch = head / p.heads;
    const int first = tile % Sums::tilesOfHead(p.queries) * Tile::kQueries;
    bool known = true;
    if (p.keyLengths != nullptr) {
      const int length = p.keyLengths[batch];
      known = length >= 0 && length <= p.keys;
    }
    const float factor = known ? p.scale : NAN;
    const auto finish = [&](const float* sums, T* gradient) {
      if (sums == nullptr) return;
      const float* const from = sums + int64_t{tile} * Sums::kTileFloats + threadIdx.x * 4;
#pragma unroll
      for (int j = 0; j < Tile::kQueries / 2; j += 4) {
        const float4 x = *reinterpret_cast<const float4*>(from + j * kWarpgroupThreads);
        const float values[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          rows[hopper::accumulatorColumn(j + i)][hopper::accumulatorRow(j + i)] = static_cast<T>(values[i] * factor);
        }
      }
      __syncthreads();
      T* const to = gradient + p.queryRows.at(batch, head % p.heads, first) * p.dim;
      for (int i = static_cast<int>(threadIdx.x); i < Tile::kQueries * kChunks; i += kWarpgroupThreads) {
        const int row = i / kChunks, column = i % kChunks * 8;
        if (first + row >= p.queries || column >= p.dim) continue;
        *reinterpret_cast<uint4*>(to + row * p.queryRow + column) = *reinterpret_cast<const uint4*>(&rows[row][column]);
      }
      __syncthreads();
    };
    finish(p.gqSums, p.gq);
    finish(p.gtqSums, p.gtq);
  }
}

// a and delta are there already; the gradients of keys or values may be wanted or not.
template <class T>
void launchFusedHopper(const Runtime& runtime, Device& device, HopperBackwardParams<T> p, int64_t heads) {
  using Tile = HopperGradientsTile<64, 32, 4>;
  constexpr int kBytes = HopperGradientsShared<Tile>::kBytes;
  static_assert(kBytes + 1024 <= kHopperShared);
  const int64_t size = QuerySums<Tile>::count(heads, p.queries), count = (p.gq ? 1 : 0) + (p.gtq ? 1 : 0);
  const Scratch<float> sums(device, count * size);
  check(cudaMemsetAsync(sums.data(), 0, count * size * sizeof(float), runtime.stream()), "cudaMemsetAsync");
  p.gqSums = p.gq ? sums.data() : nullptr;
  p.gtqSums = p.gtq ? sums.data() + (count - 1) * size : nullptr;
  encodeMaps<Moving::All, typename Tile::Other, typename Tile::Own>(p, heads / p.heads);
  launchHeads<Tile>(runtime, attentionFusedHopperKernel<T, Tile>, kBytes, p, p.keys, heads / p.group);
  const auto tiles = static_cast<int>(size / QuerySums<Tile>::kTileFloats);
  const auto blocks = static_cast<unsigned>(std::min(tiles, 32 * runtime.multiprocessors()));
  launchKernel(runtime, finishFusedHopperKernel<T, Tile>, Grid{dim3(blocks), dim3(kWarpgroupThreads)}, p, tiles);
}

}  // namespace flowmap::cuda
