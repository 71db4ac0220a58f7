// What the warps of attention_forward_hopper.cuh agree on: parameters, where things are in shared memory and which
// barrier says what of them, and the items of work that a block walks over.
#pragma once

#include <cstdint>

#include "cuda/attention_forward.cuh"
#include "cuda/hopper/tensor_map.h"
#include "cuda/hopper/tile.cuh"

namespace flowmap::cuda {

// The tile of keys depends on the head size alone, for a result's bits to be the same with and without tangents.
template <int kDim_, int kKeys_>
struct HopperForwardTile {
  static constexpr int kDim = kDim_, kKeys = kKeys_, kGroups = 2, kRows = 64 * kGroups, kStages = 2;
  static constexpr int kThreads = 128 * (kGroups + 1);
  using OfQueries = hopper::Tile<64, kDim>;
  using OfKeys = hopper::Tile<kKeys, kDim>;
};

struct HopperForwardParams : FusedHeads {
  using FusedHeads::FusedHeads;

  // [B, H, S, D] however it lies in memory; boxes are panels of a tile. An absent tangent has its primal's map.
  CUtensorMap q, tq, k, tk, v, tv, o, to;
  bool givenTq = false, givenTk = false, givenTv = false, givenTo = false;
  float *lse = nullptr, *mu = nullptr;  // mu may be null
  int allHeads = 0;                     // of all batch rows
  int tiles = 0;                        // of queries
  int together = 1;                     // so many heads' tiles are taken side by side, see HopperItem
};

template <class Tile, Tangents kTangents>
struct HopperForwardShared {
  static constexpr bool kMoving = kTangents != Tangents::None, kAll = kTangents == Tangents::All;
  static constexpr int kGroups = Tile::kGroups, kStages = Tile::kStages;
  using Barrier = hopper::Mbarrier;

  // A value and its tangent. Queries' places become those of the results.
  alignas(1024) unsigned char queries[kGroups][kMoving ? 2 : 1][Tile::OfQueries::kBytes];
  alignas(1024) unsigned char keys[kStages][kAll ? 2 : 1][Tile::OfKeys::kBytes];
  alignas(1024) unsigned char values[kStages][kAll ? 2 : 1][Tile::OfKeys::kBytes];
  Barrier queriesFull[kGroups], queriesEmpty[kGroups];
  Barrier keysFull[kStages], keysEmpty[kStages], valuesFull[kStages], valuesEmpty[kStages];
  Barrier tail;  // for the values' tile whose last rows are to become zero
};

// What a block does next: kRows queries of one head. Items of `together` heads are side by side, those with most keys
// first: under a causal mask blocks then end at about the same time, and keys and values stay in the L2 cache.
template <class Tile>
struct HopperItem {
  int head, batch, headOfBatch, firstQuery;  // head through the batch
  int length, tiles;                         // keys that count, -1 where that is unknown; tiles of them that are seen

  __device__ __forceinline__ HopperItem(const HopperForwardParams& p, int item) {
    const int section = item / (p.together * p.tiles), firstHead = section * p.together;
    const int wide = min(p.together, p.allHeads - firstHead);
    const int within = item - firstHead * p.tiles, tile = within / wide;
    head = firstHead + within % wide;
    firstQuery = (p.causal ? p.tiles - 1 - tile : tile) * Tile::kRows;
    batch = head / p.heads;
    headOfBatch = head % p.heads;
    length = p.keys;
    if (p.keyLengths != nullptr) {
      const int given = p.keyLengths[batch];
      length = given < 0 || given > p.keys ? -1 : given;
    }
    tiles = tilesOf(p, 0, Tile::kRows);
  }

  // How many keys a row of the item sees: a prefix; of an unknown length none.
  __device__ __forceinline__ int visibleTo(const HopperForwardParams& p, int row) const {
    return min(length, p.causal ? firstQuery + row + 1 + p.keys - p.queries : p.keys);
  }

  // The tiles that some of the rows from `first` up to `end` see.
  __device__ __forceinline__ int tilesOf(const HopperForwardParams& p, int first, int end) const {
    const int last = min(end, p.queries - firstQuery) - 1;
    return last < first ? 0 : (max(visibleTo(p, last), 0) + Tile::kKeys - 1) / Tile::kKeys;
  }

  static __device__ __forceinline__ int count(const HopperForwardParams& p) { return p.tiles * p.allHeads; }
};

}  // namespace flowmap::cuda
