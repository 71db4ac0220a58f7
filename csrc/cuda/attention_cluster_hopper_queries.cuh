// Attention's backward for short sequences on Hopper, what blocks give each other, by consumers: the statistics of a
// block's queries, and the sums of their gradients. All blocks add to them, one after another as their steps say: so
// the order of each sum is fixed.
#pragma once

#include <cmath>

#include "cuda/attention_cluster_hopper_work.cuh"
#include "cuda/ptx/barrier.cuh"

namespace flowmap::cuda {

// The first of the warpgroups' own named barriers.
constexpr int kWarpgroupBarrier = kGradientsBarrier + 1;

__device__ __forceinline__ void syncConsumers() {
  ptx::barrierSync<kConsumerWarpgroups * kWarpgroupThreads>(kGradientsBarrier);
}

// A warp has done what all blocks of the cluster wait for, or one of them.
__device__ __forceinline__ void tellBlocks(const hopper::Mbarrier* barrier, int blocks) {
  __syncwarp();
  const int lane = threadIdx.x % 32;
  if (lane < blocks) hopper::mbarrierArriveRemote(ptx::clusterAddress(barrier, static_cast<uint32_t>(lane)));
}
__device__ __forceinline__ void tellBlock(const hopper::Mbarrier* barrier, int rank) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) {
    hopper::mbarrierArriveRemote(ptx::clusterAddress(barrier, static_cast<uint32_t>(rank)));
  }
}

// By a consumer warp: lse, delta, mu and a of 16 of the block's queries, and the news of them to all blocks.
template <class T>
__device__ __forceinline__ void knowQueries(const HopperBackwardParams<T>& p, const ClusterWork& work, int head,
                                            unsigned char* tiles, ClusterBarriers& others) {
  constexpr int kRows = ClusterTile::kRows, kChunks = ClusterTile::kDim / 8;
  const int lane = threadIdx.x % 32, warpRow = (static_cast<int>(threadIdx.x) - kWarpgroupThreads) / 32 * 16;
  const int firstQuery = work.firstQuery() + warpRow, left = p.queries - firstQuery;
  float* const known = reinterpret_cast<float*>(tiles + ClusterShared::kStatistics) + warpRow;
  const int64_t statisticsAt = (int64_t{work.batch} * p.heads + head) * p.queries + firstQuery;
  const int64_t queryAt = p.queryRows.at(work.batch, head, firstQuery) * p.dim;
  if (lane < 16) {
    // Of queries beyond the last all is zero, and so is what they give.
    known[lane] = lane < left ? p.lse[statisticsAt + lane] * kLog2E : 0;
    known[2 * kRows + lane] = p.mu != nullptr && lane < left ? p.mu[statisticsAt + lane] : 0;
  }
#pragma unroll
  for (int pass = 0; pass < 4; ++pass) {
    const int row = 4 * pass + lane / kChunks, chunk = lane % kChunks;
    float a = 0, delta = 0;
    if (row < left && chunk * 8 < p.dim) {
      const int64_t at = queryAt + row * p.queryRow + chunk * 8;
      const auto chunkOf = [&](const T* x) { return *reinterpret_cast<const uint4*>(x + at); };
      const uint4 o = chunkOf(p.o), h = chunkOf(p.h);
      a = dotChunk<T>(o, h, a);
      if (p.g != nullptr) delta = dotChunk<T>(o, chunkOf(p.g), delta);
      if (p.to != nullptr) delta = dotChunk<T>(chunkOf(p.to), h, delta);
    }
#pragma unroll
    for (int distance = 1; distance < kChunks; distance *= 2) {
      delta += __shfl_xor_sync(0xffffffffu, delta, distance);
      a += __shfl_xor_sync(0xffffffffu, a, distance);
    }
    if (chunk == 0) known[kRows + row] = delta, known[3 * kRows + row] = a;
  }
  tellBlocks(&others.ready[work.rank], work.blocks);
}

// Where the gradients of a step's queries are summed up, as the threads of a warpgroup see it: the sink of
// consumeGradientsTile.
class ClusterSums {
 public:
  static constexpr bool kStarts = true;
  using Part = float[ClusterTile::kQueries / 2];

  __device__ __forceinline__ ClusterSums(unsigned char* tiles, ClusterBarriers& others)
      : sums_(tiles + ClusterShared::kSums + static_cast<int>(threadIdx.x) % kWarpgroupThreads * 16), others_(others) {}

  __device__ __forceinline__ void begin(const ClusterStep& step, int i, int grouped) {
    ofOwner_ = ptx::clusterAddress(sums_, static_cast<uint32_t>(step.owner));
    step_ = i, parity_ = static_cast<uint32_t>(grouped % 2);
  }

  // What the blocks before have added up,
  __device__ __forceinline__ void start(const GradientsTileFacts& facts, bool tangent, Part& x) const {
    await();
    const uint32_t at = placeOf(facts, tangent);
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const float4 values = ptx::loadClusterFloats(at + i * ClusterShared::kSumChunk);
      x[4 * i] = values.x, x[4 * i + 1] = values.y, x[4 * i + 2] = values.z, x[4 * i + 3] = values.w;
    }
  }
  // and that with this block's part.
  __device__ __forceinline__ void add(const GradientsTileFacts& facts, bool tangent, const Part& x) const {
    const uint32_t at = placeOf(facts, tangent);
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const float4 values{x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]};
      ptx::storeClusterFloats(at + i * ClusterShared::kSumChunk, values);
    }
  }

  // The block before this one has its turn at the same sums next; what it learns includes what this one knew.
  __device__ __forceinline__ void end(const ClusterWork& work) const {
    await();
    tellBlock(&others_.turns[step_], work.rank > 0 ? work.rank - 1 : work.blocks - 1);
  }

 private:
  static constexpr int kChunks = ClusterTile::kQueries / 8;

  // Sums of the own queries, in step 0, are as this block left them.
  __device__ __forceinline__ void await() const {
    if (step_ > 0) hopper::mbarrierWaitCluster(&others_.turns[step_ - 1], parity_);
  }
  __device__ __forceinline__ uint32_t placeOf(const GradientsTileFacts& facts, bool tangent) const {
    const int tile = facts.firstQuery / ClusterTile::kQueries % kClusterTilesOfStep;
    return ofOwner_ + (tangent ? ClusterShared::kSumBytes : 0) + tile * ClusterShared::kSumTile;
  }

  const unsigned char* const sums_;
  ClusterBarriers& others_;
  uint32_t ofOwner_ = 0, parity_ = 0;
  int step_ = 0;
};

// By a warpgroup of consumers, each for one gradient: sums of the own queries are written to memory, rounded, and
// become zeros for the next head.
template <class T>
__device__ __forceinline__ void finishQueries(const HopperBackwardParams<T>& p, const ClusterWork& work, int head,
                                              unsigned char* tiles, ClusterBarriers& others, int grouped) {
  using Shared = ClusterShared;
  using Own = ClusterTile::Own;
  constexpr int kQueries = ClusterTile::kQueries, kValues = kQueries / 2, kChunks = Own::kColumns / 8;
  hopper::mbarrierWaitCluster(&others.turns[work.blocks - 1], static_cast<uint32_t>(grouped % 2));
  syncConsumers();
  const int consumer = static_cast<int>(threadIdx.x) - kWarpgroupThreads, lane = consumer % 32;
  const int thread = consumer % kWarpgroupThreads, gradient = consumer / kWarpgroupThreads;
  unsigned char* const rows = tiles + Shared::kGs + gradient * Shared::kTurn;
  const float factor = work.length < 0 ? NAN : p.scale;
#pragma unroll 1
  for (int tile = 0; tile < kClusterTilesOfStep; ++tile) {
    float4* const sums = reinterpret_cast<float4*>(tiles + Shared::kSums + gradient * Shared::kSumBytes +
                                                   tile * Shared::kSumTile + thread * 16);
    float x[kValues];
#pragma unroll
    for (int i = 0; i < kValues / 4; ++i) {
      float4& values = sums[i * kWarpgroupThreads];
      x[4 * i] = values.x * factor, x[4 * i + 1] = values.y * factor;
      x[4 * i + 2] = values.z * factor, x[4 * i + 3] = values.w * factor;
      values = float4{};
    }
    uint32_t rounded[kQueries / 16][4];
    hopper::toOperand<T>(rounded, x);
    // The accumulators' rows are columns of the gradient.
    const int query = tile * kQueries + lane / 16 * 8 + lane % 8, column = thread / 32 * 16 + lane / 8 % 2 * 8;
#pragma unroll
    for (int step = 0; step < kQueries / 16; ++step) {
      ptx::stmatrix<true>(rows + Own::chunk(query + 16 * step, column), rounded[step]);
    }
  }
  ptx::barrierSync<kWarpgroupThreads>(kWarpgroupBarrier + gradient);
  T* const to = gradient == 0 ? p.gq : p.gtq;
  if (to != nullptr) {
    const int64_t queryAt = p.queryRows.at(work.batch, head, work.firstQuery()) * p.dim;
#pragma unroll 1
    for (int i = thread; i < Own::kRows * kChunks; i += kWarpgroupThreads) {
      const int row = i / kChunks, chunk = i % kChunks;
      if (work.firstQuery() + row >= p.queries || chunk * 8 >= p.dim) continue;
      *reinterpret_cast<uint4*>(to + queryAt + row * p.queryRow + chunk * 8) =
          *reinterpret_cast<const uint4*>(rows + Own::chunk(row, chunk * 8));
    }
  }
  // Before the next head's weights come there, and its sums.
  syncConsumers();
}

}  // namespace flowmap::cuda
