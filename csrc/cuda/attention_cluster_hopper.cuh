// Attention's backward for short sequences on Hopper, all six gradients in one launch: each block of a cluster keeps
// its keys' gradients in registers, as attention_dkv_hopper.cuh does, and gives what its keys add to the queries'
// gradients to the blocks that own these.
#pragma once

#include <cmath>

#include "cuda/attention_cluster_hopper_producer.cuh"
#include "cuda/attention_cluster_hopper_queries.cuh"

namespace flowmap::cuda {

// A thread's part of the gradients of its warpgroup's 64 keys.
struct ClusterKeyGradients {
  static constexpr int kColumns = ClusterTile::kDim / 2;
  float gk[kColumns] = {}, gtk[kColumns] = {}, gv[kColumns] = {}, gtv[kColumns] = {};
};

// By a consumer: one tile of queries, the use-th of the block. `counting` of the warp's keys count.
template <class T>
__device__ __forceinline__ void consumeClusterTile(float scale, unsigned char* tiles, int groupRow, int warpRow,
                                                   int counting, uint32_t use, int tile,
                                                   RoleBarriers<ClusterTile::kStages>& barriers,
                                                   const ClusterSums& sums, ClusterKeyGradients& out) {
  using Shared = ClusterShared;
  using Own = ClusterTile::Own;
  using Other = ClusterTile::Other;
  using Weights = ClusterTile::Weights;
  using hopper::Major;
  constexpr int kQueries = ClusterTile::kQueries, kScores = kQueries / 2, kSteps = kQueries / 16;
  const int lane = threadIdx.x % 32;
  const uint64_t own = Own::rowOperand(tiles, groupRow, 0);
  const uint64_t rows = Other::rowOperand(tiles, 0, 0), columns = Other::columnOperand(tiles, 0, 0);
  const hopper::RingTurn<ClusterTile::kStages> at(use);
  const int stage = at.stage * Shared::kStage;
  hopper::mbarrierWait(&barriers.full[at.stage], at.parity);
  float s[kScores], t[kScores], d[kScores], r[kScores];
  const uint64_t queries = advanced(rows, stage);
  hopper::wgmmaFence();
  issueScores<T, Own, Other, true, true>(s, t, own, Shared::kK, Shared::kTk, queries, Shared::kQ, Shared::kTq);
  hopper::wgmmaCommit();
  issueScores<T, Own, Other, true, true>(d, r, own, Shared::kV, Shared::kTv, queries, Shared::kH, Shared::kG);
  hopper::wgmmaCommit();
  hopper::wgmmaWait<1>();
  hopper::holdRegisters(s);
  hopper::holdRegisters(t);
  const float* const known = reinterpret_cast<const float*>(tiles + Shared::kKnown) + at.stage * Shared::kKnownFloats;
  const auto pairOf = [&](int kind, int column) {
    return *reinterpret_cast<const float2*>(known + lane % 4 * 2 + kind * kQueries + column);
  };
  // Keys that do not count have no weight, as they must not reach a query's gradient.
  const int seen = reinterpret_cast<const int*>(known)[Shared::kSeen] - warpRow;
  const bool masked = min(seen, counting) < 16;
#pragma unroll
  for (int column = 0; column < kQueries; column += 8) {
    const float2 lse2 = pairOf(0, column), mu = pairOf(2, column);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int j = column / 2 + i, second = i % 2;
      const QueryRow query{second ? lse2.y : lse2.x, second ? mu.y : mu.x, 0, 0};
      const bool visible = !masked || lane / 4 + i / 2 * 8 < min(seen + column + lane % 4 * 2 + second, counting);
      weigh<true>(s[j], &t[j], query, scale, visible);
    }
  }
  uint32_t weights[kSteps][4], moved[kSteps][4];
  hopper::toOperand<T>(weights, s);
  hopper::toOperand<T>(moved, t);
  hopper::holdRegisters(out.gv);
  hopper::holdRegisters(out.gtv);
  hopper::wgmmaFence();
  const uint64_t others = advanced(columns, stage);
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
  hopper::holdRegisters(out.gk);
  hopper::holdRegisters(out.gtk);
  hopper::wgmmaFence();
  issueGradients<T, Other, true, true>(out.gk, out.gtk, gs, gt, others, Shared::kQ, Shared::kTq);
  hopper::wgmmaCommit();

  const int turn = use % 2 * Shared::kTurn;
  hopper::storeOperand<Weights>(tiles + turn + Shared::kGs, groupRow, gs);
  hopper::storeOperand<Weights>(tiles + turn + Shared::kGt, groupRow, gt);
  hopper::fenceProxyAsync();
  // The warpgroups take gQ and gtQ in turns: the former is twice the work.
  const int gradient = (groupRow / 64 + static_cast<int>(use)) % 2;
  float x[kScores];
  sums.load(x, gradient, tile);
  syncConsumers();
  const uint64_t keys = Own::columnOperand(tiles, 0, 0);
  const uint64_t weightsOfTile = advanced(Weights::columnOperand(tiles, 0, 0), turn);
  const auto issueOwn = [&](int atKeys, int atWeights) {
#pragma unroll
    for (int key = 0; key < Own::kRows; key += 16) {
      hopper::wgmma<T, Major::mn, Major::mn>(x, advanced(keys, atKeys + key * Own::kSwizzle),
                                             advanced(weightsOfTile, atWeights + key * Weights::kSwizzle), true);
    }
  };
  hopper::holdRegisters(x);
  hopper::wgmmaFence();
  issueOwn(Shared::kK, gradient == 0 ? Shared::kGs : Shared::kGt);
  if (gradient == 0) {
    hopper::wgmmaFence();
    issueOwn(Shared::kTk, Shared::kGt);
  }
  hopper::wgmmaCommit();
  hopper::wgmmaWait<0>();
  hopper::holdRegisters(x);
  hopper::holdRegisters(gs);
  hopper::holdRegisters(gt);
  hopper::holdRegisters(weights);
  hopper::holdRegisters(moved);
  hopper::holdRegisters(out.gv);
  hopper::holdRegisters(out.gtv);
  hopper::holdRegisters(out.gk);
  hopper::holdRegisters(out.gtk);
  releaseStage(&barriers.empty[at.stage]);
  sums.store(x, gradient, tile);
}

template <class T>
__device__ __forceinline__ void consumeCluster(const HopperBackwardParams<T>& p, const ClusterWork& work,
                                               unsigned char* tiles, RoleBarriers<ClusterTile::kStages>& barriers,
                                               ClusterBarriers& others) {
  using Shared = ClusterShared;
  using Own = ClusterTile::Own;
  const int consumer = static_cast<int>(threadIdx.x) - kWarpgroupThreads, lane = threadIdx.x % 32;
  const int warpRow = consumer / 32 * 16, counting = work.length - work.firstRow - warpRow;
  // The same in a warp, as the compiler is to know.
  const int groupRow = __shfl_sync(0xffffffffu, consumer / kWarpgroupThreads * 64, 0);
  ClusterSums sums(tiles, others);
  ClusterKeyGradients out;
  uint32_t use = 0;
  for (int grouped = 0; grouped < p.group; ++grouped) {
    const int head = work.ofBatch * p.group + grouped;
    knowQueries(p, work, head, tiles, others);
    if (grouped == 0 && work.hasKeys()) hopper::mbarrierWait(&barriers.own, 0);
    for (int i = 0; i < work.blocks; ++i) {
      const ClusterStep step = work.step(p, i);
      sums.begin(step, i, grouped);
      for (int tile = step.first; tile < step.end; ++tile, ++use) {
        consumeClusterTile<T>(p.scale, tiles, groupRow, warpRow, counting, use, tile, barriers, sums, out);
      }
      sums.end(work);
    }
    finishQueries(p, work, head, tiles, others, grouped);
  }

  const int left = p.keys - work.firstRow - warpRow;
  const int64_t keyAt = p.keyRows.at(work.batch, work.ofBatch, work.firstRow + warpRow) * p.dim;
  const auto store = [&](T* gradient, auto& x, float scale) {
    if (gradient == nullptr) return;
#pragma unroll
    for (int j = 0; j < ClusterKeyGradients::kColumns; ++j) {
      // Keys that do not count have no gradient; what an unknown number of keys gives is unknown.
      const bool counts = lane / 4 + j / 2 % 2 * 8 < counting;
      x[j] = work.length < 0 ? NAN : counts ? x[j] * scale : 0;
    }
    storeAccumulators<Own>(tiles + Shared::kK, warpRow, x, gradient + keyAt, p.keyRow, left, p.dim);
  };
  store(p.gk, out.gk, p.scale);
  store(p.gtk, out.gtk, p.scale);
  store(p.gv, out.gv, 1);
  store(p.gtv, out.gtv, 1);
}

template <class T>
__global__ void __launch_bounds__(kHopperThreads, 1)
    attentionClusterHopperKernel(const __grid_constant__ HopperBackwardParams<T> p) {
  extern __shared__ __align__(1024) unsigned char hopperTiles[];
  __shared__ RoleBarriers<ClusterTile::kStages> barriers;
  __shared__ ClusterBarriers others;
  const ClusterWork work(p);
  if (threadIdx.x == 0) barriers.init(), others.init();
  for (int i = static_cast<int>(threadIdx.x); i < 2 * ClusterShared::kSumBytes / 16; i += kHopperThreads) {
    reinterpret_cast<float4*>(hopperTiles + ClusterShared::kSums)[i] = float4{};
  }
  // Barriers and sums are there before other blocks use them,
  ptx::clusterArrive();
  ptx::clusterWait();
  if (threadIdx.x < kWarpgroupThreads) {
    hopper::decreaseRegisters<kProducerRegisters>();
    if (threadIdx.x < 32) produceClusterTiles(p, work, hopperTiles, barriers, others);
  } else {
    hopper::increaseRegisters<kConsumerRegisters>();
    consumeCluster(p, work, hopperTiles, barriers, others);
  }
  // and as long as they do.
  ptx::clusterArrive();
  ptx::clusterWait();
}

template <class T>
bool runsInClusters(const BackwardParams<T>& p) {
  constexpr int kMost = kMostClusterBlocks * ClusterTile::kRows;
  return p.dim <= ClusterTile::kDim && p.queries <= kMost && p.keys <= kMost;
}

// A cluster for each key head.
template <class T>
void launchBackwardClusters(const Runtime& runtime, const BackwardParams<T>& params, int64_t heads) {
  constexpr int kBytes = ClusterShared::kBytes, kRows = ClusterTile::kRows;
  constexpr int64_t kMost = 65535;
  const auto kernel = attentionClusterHopperKernel<T>;
  HopperBackwardParams<T> p(params);
  encodeMaps<Moving::All, ClusterTile::Other, ClusterTile::Own>(p, heads / p.heads);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), "cudaFuncSetAttribute");
  const int blocks = (std::max(p.queries, p.keys) + kRows - 1) / kRows;
  const int64_t keyHeads = heads / p.group;
  for (int64_t first = 0; first < keyHeads; first += kMost) {
    p.firstHead = static_cast<int>(first);
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(std::min(kMost, keyHeads - first)));
    launchClusters(runtime, blocks, kernel, Grid{grid, dim3(kHopperThreads), static_cast<size_t>(kBytes)}, p);
  }
}

}  // namespace flowmap::cuda
