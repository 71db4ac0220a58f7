// Attention's backward for short sequences on Hopper, what comes in: a warp brings the block's keys and then tiles of
// queries, step by step, with what their owners found out about them.
#pragma once

#include "cuda/attention_cluster_hopper_work.cuh"

namespace flowmap::cuda {

// By a warp. Keys that do not count are operands of other rows' gradients: whatever they are, they become zero.
template <class T>
__device__ __forceinline__ void produceOwnKeys(const HopperBackwardParams<T>& p, const ClusterWork& work,
                                               unsigned char* tiles, RoleBarriers<ClusterTile::kStages>& barriers) {
  using Shared = ClusterShared;
  using Own = ClusterTile::Own;
  const int counting = work.length - work.firstKey;
  const bool ragged = counting < Own::kRows && work.length < p.keys;
  if (threadIdx.x == 0) {
    hopper::Mbarrier* const barrier = ragged ? &barriers.landed : &barriers.own;
    const TileOrigin origin{work.firstKey, work.keyHead, work.batch};
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
  for (int operand = 0; operand < 4; ++operand) {
    hopper::clearRows<Own>(tiles + Shared::kK + operand * Shared::kOwn, counting);
  }
  hopper::fenceProxyAsync();
  __syncwarp();
  if (threadIdx.x == 0) hopper::mbarrierArrive(&barriers.own);
}

template <class T>
__device__ __forceinline__ void produceClusterTiles(const HopperBackwardParams<T>& p, const ClusterWork& work,
                                                    unsigned char* tiles, RoleBarriers<ClusterTile::kStages>& barriers,
                                                    ClusterBarriers& others) {
  using Shared = ClusterShared;
  using Other = ClusterTile::Other;
  constexpr int kQueries = ClusterTile::kQueries;
  static_assert(kQueries == 32);
  if (!work.hasKeys()) return;
  produceOwnKeys(p, work, tiles, barriers);
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
        if (lane == 0) {
          const TileOrigin origin{firstQuery, head, work.batch};
          const auto load = [&](int offset, const CUtensorMap& map, const T* x) {
            loadOperand<Other>(stage + offset, map, x, origin, p.queries, full);
          };
          hopper::mbarrierExpect(full, Shared::kStage);
          load(Shared::kQ, p.maps.q, p.q), load(Shared::kTq, p.maps.tq, p.tq);
          load(Shared::kH, p.maps.h, p.h), load(Shared::kG, p.maps.g, p.g);
        }
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
