// Attention's backward for short sequences on Hopper, what comes in: a warp brings the block's keys and then tiles of
// queries, step by step, with what their owners found out about them.
#pragma once

#include "cuda/attention_cluster_hopper_work.cuh"

namespace flowmap::cuda {

template <class T>
__device__ __forceinline__ void produceClusterTiles(const HopperBackwardParams<T>& p, const ClusterWork& work,
                                                    unsigned char* tiles, RoleBarriers<ClusterTile::kStages>& barriers,
                                                    ClusterBarriers& others) {
  using Shared = ClusterShared;
  using Other = ClusterTile::Other;
  constexpr int kQueries = ClusterTile::kQueries;
  static_assert(kQueries == 32);
  if (!work.hasKeys()) return;
  loadOwnKeys<ClusterTile>(p, {work.firstKey, work.keyHead, work.batch}, work.length, tiles, barriers);
  const int lane = threadIdx.x % 32;
  uint32_t use = 0;
  for (int grouped = 0; grouped < p.group; ++grouped) {
    const int head = work.keyHead * p.group + grouped;
    for (int i = 0; i < work.blocks; ++i) {
      const ClusterStep step = work.step(p, i);
      for (int tile = step.first; tile < step.end; ++tile, ++use) {
        const hopper::RingTurn<ClusterTile::kStages> at(use);
        const int ofOwner = tile * kQueries, firstQuery = step.owner * ClusterTile::kRows + ofOwner;
        unsigned char* const stage = tiles + at.stage * Shared::kStage;
        hopper::Mbarrier* const full = &barriers.full[at.stage];
        hopper::mbarrierWait(&barriers.empty[at.stage], at.parity ^ 1);
        if (lane == 0) loadQueries<Shared, Other, true>(p, stage, {firstQuery, head, work.batch}, full);
        hopper::mbarrierWaitCluster(&others.ready[step.owner], static_cast<uint32_t>(grouped % 2));
        float* const known = Shared::known(tiles, at.stage);
        const uint32_t from =
            ptx::clusterAddress(tiles + Shared::kStatistics, static_cast<uint32_t>(step.owner)) + 4 * (ofOwner + lane);
#pragma unroll
        for (int kind = 0; kind < 4; ++kind) {
          known[kind * kQueries + lane] = ptx::loadClusterFloat(from + 4 * kind * ClusterTile::kRows);
        }
        if (lane == 0) *Shared::facts(tiles, at.stage) = work.factsOf(p, head, firstQuery);
        __syncwarp();
        if (lane == 0) hopper::mbarrierArrive(full);
      }
    }
  }
}

}  // namespace flowmap::cuda
