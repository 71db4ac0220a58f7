// Attention's backward for short sequences on Hopper, all six gradients in one launch: each block of a cluster keeps
// its keys' gradients in registers, as attention_dkv_hopper.cuh does, and gives what its keys add to the queries'
// gradients to the blocks that own these.
#pragma once

#include <cmath>

#include "cuda/attention_cluster_hopper_producer.cuh"
#include "cuda/attention_cluster_hopper_queries.cuh"

namespace flowmap::cuda {

template <class T>
__device__ __forceinline__ void consumeCluster(const HopperBackwardParams<T>& p, const ClusterWork& work,
                                               unsigned char* tiles, RoleBarriers<ClusterTile::kStages>& barriers,
                                               ClusterBarriers& others) {
  ClusterSums sums(tiles, others);
  HopperKeyGradients<ClusterTile> out;
  int use = 0;
  for (int grouped = 0; grouped < p.group; ++grouped) {
    const int head = work.keyHead * p.group + grouped;
    knowQueries(p, work, head, tiles, others);
    if (grouped == 0 && work.hasKeys()) hopper::mbarrierWait(&barriers.own, 0);
    for (int i = 0; i < work.blocks; ++i) {
      const ClusterStep step = work.step(p, i);
      sums.begin(step, i, grouped);
      for (int tile = step.first; tile < step.end; ++tile, ++use) {
        consumeGradientsTile<T>(p.scale, tiles, barriers, use, sums, out);
      }
      sums.end(work);
    }
    finishQueries(p, work, head, tiles, others, grouped);
  }

  storeKeyGradients(p, work, tiles, out);
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
  // Barriers and sums are there before other blocks use them. No block ends before the last of these is done: it has
  // waited for all turns, and what ends them knows of all that came before.
  ptx::clusterArrive();
  ptx::clusterWait();
  if (threadIdx.x < kWarpgroupThreads) {
    hopper::decreaseRegisters<kProducerRegisters>();
    if (threadIdx.x < 32) produceClusterTiles(p, work, hopperTiles, barriers, others);
  } else {
    hopper::increaseRegisters<kConsumerRegisters>();
    consumeCluster(p, work, hopperTiles, barriers, others);
  }
}

// A cluster for each key head; false where sequences are too long for that, or heads too wide.
template <class T>
bool launchBackwardClusters(const Runtime& runtime, const BackwardParams<T>& params, int64_t heads) {
  constexpr int kBytes = ClusterShared::kBytes, kRows = ClusterTile::kRows;
  constexpr int64_t kMost = 65535;
  static_assert(kBytes + 1024 <= kHopperShared);
  const auto kernel = attentionClusterHopperKernel<T>;
  const int blocks = (std::max(params.queries, params.keys) + kRows - 1) / kRows;
  if (params.dim > ClusterTile::kDim || blocks > kMostClusterBlocks) return false;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes), "cudaFuncSetAttribute");
  Grid grid{dim3(static_cast<unsigned>(blocks)), dim3(kHopperThreads), static_cast<size_t>(kBytes)};
  int most = 0;
  const ClusterConfig cluster(runtime, blocks, grid);
  check(cudaOccupancyMaxActiveClusters(&most, kernel, &cluster.config), "cudaOccupancyMaxActiveClusters");
  if (most == 0) return false;  // a share of a GPU may have too few multiprocessors
  HopperBackwardParams<T> p(params);
  encodeMaps<Moving::All, ClusterTile::Other, ClusterTile::Own>(p, heads / p.heads);
  const int64_t keyHeads = heads / p.group;
  for (int64_t first = 0; first < keyHeads; first += kMost) {
    p.firstHead = static_cast<int>(first);
    grid.blocks.y = static_cast<unsigned>(std::min(kMost, keyHeads - first));
    launchClusters(runtime, blocks, kernel, grid, p);
  }
  return true;
}

}  // namespace flowmap::cuda
