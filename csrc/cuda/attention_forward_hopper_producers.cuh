// The warps that bring tiles for attention_forward_hopper.cuh: one for keys, one for values, one for queries, each with
// the tangents beside them. What is absent or beyond a tensor is zeros.
#pragma once

#include "cuda/attention_forward_hopper_items.cuh"

namespace flowmap::cuda {

template <class Tile, Tangents kTangents>
__device__ __forceinline__ void bringQueries(HopperForwardShared<Tile, kTangents>& shared,
                                             const HopperForwardParams& p) {
  using Shared = HopperForwardShared<Tile, kTangents>;
  using OfQueries = typename Tile::OfQueries;
  if (threadIdx.x % 32 != 0) return;
  uint32_t used = 0;
  for (int at = static_cast<int>(blockIdx.x); at < HopperItem<Tile>::count(p);
       at += static_cast<int>(gridDim.x), ++used) {
    const HopperItem<Tile> item(p, at);
    for (int group = 0; group < Tile::kGroups; ++group) {
      hopper::mbarrierWait(&shared.queriesEmpty[group], used % 2 ^ 1);
      hopper::Mbarrier* const full = &shared.queriesFull[group];
      hopper::mbarrierArriveExpect(full, sizeof(shared.queries[group]));
      hopper::Box<4> box{{0, item.firstQuery + 64 * group, item.headOfBatch, item.batch}};
      hopper::tileLoad<OfQueries>(shared.queries[group][0], &p.q, box, full);
      if constexpr (Shared::kMoving) {
        if (!p.givenTq) box.at[1] = p.queries;  // beyond the tensor: zeros
        hopper::tileLoad<OfQueries>(shared.queries[group][1], &p.tq, box, full);
      }
    }
  }
}

// A tile of keys or values and of their tangents, when its place is free, told to a barrier of one arrival.
template <class Tile, int kOperands>
__device__ __forceinline__ void bringTile(unsigned char (&to)[kOperands][Tile::OfKeys::kBytes],
                                          const HopperForwardParams& p, const CUtensorMap& map,
                                          const CUtensorMap& tangentMap, bool givenTangent,
                                          const HopperItem<Tile>& item, int tile, hopper::Mbarrier* full) {
  hopper::mbarrierArriveExpect(full, sizeof(to));
  hopper::Box<4> box{{0, tile * Tile::kKeys, item.headOfBatch / p.group, item.batch}};
  hopper::tileLoad<typename Tile::OfKeys>(to[0], &map, box, full);
  if constexpr (kOperands == 2) {
    if (!givenTangent) box.at[1] = p.keys;  // beyond the tensor: zeros
    hopper::tileLoad<typename Tile::OfKeys>(to[1], &tangentMap, box, full);
  }
}

template <class Tile, Tangents kTangents>
__device__ __forceinline__ void bringKeys(HopperForwardShared<Tile, kTangents>& shared, const HopperForwardParams& p) {
  if (threadIdx.x % 32 != 0) return;
  uint32_t used = 0;
  for (int at = static_cast<int>(blockIdx.x); at < HopperItem<Tile>::count(p); at += static_cast<int>(gridDim.x)) {
    const HopperItem<Tile> item(p, at);
    for (int tile = 0; tile < item.tiles; ++tile, ++used) {
      const hopper::RingTurn<Tile::kStages> turn(used);
      hopper::mbarrierWait(&shared.keysEmpty[turn.stage], turn.parity ^ 1);
      bringTile(shared.keys[turn.stage], p, p.k, p.tk, p.givenTk, item, tile, &shared.keysFull[turn.stage]);
    }
  }
}

// Rows of values beyond the keys that count may be anything, NaN included, which a weight of 0 does not hide.
template <class Tile, Tangents kTangents>
__device__ __forceinline__ void bringValues(HopperForwardShared<Tile, kTangents>& shared,
                                            const HopperForwardParams& p) {
  const bool leads = threadIdx.x % 32 == 0;
  uint32_t used = 0, tails = 0;
  for (int at = static_cast<int>(blockIdx.x); at < HopperItem<Tile>::count(p); at += static_cast<int>(gridDim.x)) {
    const HopperItem<Tile> item(p, at);
    for (int tile = 0; tile < item.tiles; ++tile, ++used) {
      const hopper::RingTurn<Tile::kStages> turn(used);
      // What is beyond the tensor is zeros already.
      const int counting = item.length - tile * Tile::kKeys;
      const bool whole = counting >= Tile::kKeys || item.length == p.keys;
      hopper::Mbarrier* const full = &shared.valuesFull[turn.stage];
      if (leads) {
        hopper::mbarrierWait(&shared.valuesEmpty[turn.stage], turn.parity ^ 1);
        bringTile(shared.values[turn.stage], p, p.v, p.tv, p.givenTv, item, tile, whole ? full : &shared.tail);
      }
      if (whole) continue;
      __syncwarp();
      hopper::mbarrierWait(&shared.tail, tails++ % 2);
#pragma unroll 1
      for (unsigned char* const values : shared.values[turn.stage])
        hopper::clearRows<typename Tile::OfKeys>(values, counting);
      hopper::fenceProxyAsync();
      __syncwarp();
      if (leads) hopper::mbarrierArrive(full);
    }
  }
}

}  // namespace flowmap::cuda
