// What the kernels of attention's backward on Hopper share: a block of three warpgroups, of which the first brings
// tiles by TMA and the others multiply them by wgmma; the barriers between them; tiles of operands by their tensor
// maps.
#pragma once

#include <cstdint>

#include "cuda/attention_backward_products.cuh"
#include "cuda/hopper/tensor_map.h"
#include "cuda/hopper/tile.cuh"

namespace flowmap::cuda {

constexpr int kWarpgroupThreads = 128, kConsumerWarpgroups = 2, kConsumerWarps = 4 * kConsumerWarpgroups;
constexpr int kHopperThreads = (1 + kConsumerWarpgroups) * kWarpgroupThreads;
// Of a thread; together what a block of kHopperThreads may have.
constexpr int kProducerRegisters = 24, kConsumerRegisters = 240;
constexpr int kHopperShared = 227 * 1024;  // bytes that a block may have

// The operands [D, tokens, heads, batch] in boxes of a panel of a tile.
struct BackwardMaps {
  CUtensorMap q, tq, g, h, k, tk, v, tv;
};

template <class T>
struct HopperBackwardParams : BackwardParams<T> {
  HopperBackwardParams(const BackwardParams<T>& p) : BackwardParams<T>(p) {}
  BackwardMaps maps;
};

// Maps for boxes of QueryTile and KeyTile, of what kernels that know kWhat read. Where an operand is absent, that of q
// or k stands in: see loadOperand.
template <Moving kWhat, class QueryTile, class KeyTile, class T>
void encodeMaps(HopperBackwardParams<T>& p, int64_t batch) {
  const auto encode = [&](CUtensorMap& map, auto tile, const T* x, const T* otherwise, const HeadRows& rows, int tokens,
                          int heads) {
    using Tile = decltype(tile);
    const auto elements = [&](int64_t distance) { return static_cast<uint64_t>(distance * p.dim); };
    const hopper::TensorShape<4> shape{{static_cast<uint64_t>(p.dim), static_cast<uint64_t>(tokens),
                                        static_cast<uint64_t>(heads), static_cast<uint64_t>(batch)},
                                       {1, elements(rows.row), elements(rows.head), elements(rows.batch)},
                                       {Tile::kPanelColumns, Tile::kRows, 1, 1}};
    check(hopper::encodeTensorMap(map, x == nullptr ? otherwise : x, shape, Tile::kSwizzle), "cuTensorMapEncodeTiled");
  };
  const auto ofQueries = [&](CUtensorMap& map, const T* x) {
    encode(map, QueryTile(), x, p.q, p.queryRows, p.queries, p.heads);
  };
  const auto ofKeys = [&](CUtensorMap& map, const T* x) {
    encode(map, KeyTile(), x, p.k, p.keyRows, p.keys, p.heads / p.group);
  };
  ofQueries(p.maps.q, p.q), ofQueries(p.maps.g, p.g);
  ofKeys(p.maps.k, p.k), ofKeys(p.maps.v, p.v);
  if constexpr (kWhat != Moving::None) ofQueries(p.maps.tq, p.tq), ofQueries(p.maps.h, p.h);
  if constexpr (kWhat == Moving::All) ofKeys(p.maps.tk, p.tk), ofKeys(p.maps.tv, p.tv);
}

// Which head a block has: these kernels do not know packed sequences.
struct HeadPlace {
  int head, ofBatch, batch;  // head through the batch
  int length;                // how many keys count; -1 where that is unknown

  __device__ __forceinline__ HeadPlace(const FusedHeads& p, int headsOfBatch)
      : head(p.firstHead + static_cast<int>(blockIdx.y)),
        ofBatch(head % headsOfBatch),
        batch(head / headsOfBatch),
        length(p.keys) {
    if (p.keyLengths == nullptr) return;
    const int given = p.keyLengths[batch];
    length = given < 0 || given > p.keys ? -1 : given;
  }
};

// Where a tile of an operand begins.
struct TileOrigin {
  int row, head, batch;
};

// By one thread. An absent operand is zeros, as what lies beyond the `tokens` of a head is.
template <class Tile, class T>
__device__ __forceinline__ void loadOperand(unsigned char* tile, const CUtensorMap& map, const T* x, TileOrigin at,
                                            int tokens, hopper::Mbarrier* barrier) {
  hopper::tileLoad<Tile>(tile, &map, hopper::Box<4>{{0, x == nullptr ? tokens : at.row, at.head, at.batch}}, barrier);
}

// By one thread: a tile of queries, of their tangent and of both cotangents, to where Shared says; of q and g alone
// without kMoving.
template <class Shared, class Tile, bool kMoving, class T>
__device__ __forceinline__ void loadQueries(const HopperBackwardParams<T>& p, unsigned char* stage, TileOrigin at,
                                            hopper::Mbarrier* full) {
  const auto load = [&](int offset, const CUtensorMap& map, const T* x) {
    loadOperand<Tile>(stage + offset, map, x, at, p.queries, full);
  };
  hopper::mbarrierExpect(full, Shared::kStage);
  load(Shared::kQ, p.maps.q, p.q);
  if constexpr (kMoving) load(Shared::kTq, p.maps.tq, p.tq), load(Shared::kH, p.maps.h, p.h);
  load(Shared::kG, p.maps.g, p.g);
}

// By a warp: lse in base 2, delta and, with kMoving, mu and a of a tile's queries, the first of which is the `from`-th
// of all, with `left` to come in its head.
template <int kQueries, bool kMoving, class T>
__device__ __forceinline__ void loadStatistics(const BackwardParams<T>& p, int64_t from, int left, float* known) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < (kMoving ? 4 : 2) * kQueries / 32; ++i) {
    const int which = i * 32 / kQueries, row = i * 32 % kQueries + lane;
    const float* const x = which == 0 ? p.lse : which == 1 ? p.delta : which == 2 ? p.mu : p.a;
    // Of queries beyond the last all is zero, and so is what they give.
    const float value = x != nullptr && row < left ? x[from + row] : 0;
    known[i * 32 + lane] = which == 0 ? value * kLog2E : value;
  }
}

// `own` is what a block keeps, `full` and `empty` are of each stage of what it walks over; `landed` is for a tile that
// the producer changes before it is full.
template <int kStages>
struct RoleBarriers {
  hopper::Mbarrier own, landed, full[kStages], empty[kStages];

  // By one thread, before a barrier of the block.
  __device__ __forceinline__ void init() {
    hopper::mbarrierInit(&own, 1);
    hopper::mbarrierInit(&landed, 1);
    for (int stage = 0; stage < kStages; ++stage) {
      hopper::mbarrierInit(&full[stage], 1);
      hopper::mbarrierInit(&empty[stage], kConsumerWarps);
    }
    hopper::fenceMbarrierInit();
  }
};

// A consumer warp is done with a stage.
__device__ __forceinline__ void releaseStage(hopper::Mbarrier* empty) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) hopper::mbarrierArrive(empty);
}

// A tile's places as the code of mma.sync names them.
template <class Tile>
struct PanelLayout {
  static constexpr int kChunks = Tile::kColumns / 8;
  static __device__ __forceinline__ int offset(int row, int chunk) { return Tile::chunk(row, 8 * chunk); }
};

// An operand further on in shared memory, by bytes: one descriptor serves all tiles of a shape, and all steps.
__device__ __forceinline__ uint64_t advanced(uint64_t operand, int bytes) {
  return operand >> 32 << 32 | (static_cast<uint32_t>(operand) + static_cast<uint32_t>(bytes) / 16);
}
template <class Tile>
__device__ __forceinline__ int bytesToColumn(int column) {
  return column / Tile::kPanelColumns * Tile::kPanelBytes + column % Tile::kPanelColumns * 2;
}

// x = A·Bᵀ and y = tA·Bᵀ + A·tBᵀ, of the tangents that there are, for 64 own rows; operands by rows (see Tile) of the
// first tiles, and how far on each is. Issues only.
template <class T, class Own, class Other, bool kOwn, bool kOther, int kScores, int kMovingScores>
__device__ __forceinline__ void issueScores(float (&x)[kScores], float (&y)[kMovingScores], uint64_t own, int atA,
                                            int atTa, uint64_t other, int atB, int atTb) {
  using hopper::Major;
#pragma unroll
  for (int k = 0; k < Own::kColumns; k += 16) {
    const int onA = bytesToColumn<Own>(k), onB = bytesToColumn<Other>(k);
    const uint64_t a = advanced(own, atA + onA), b = advanced(other, atB + onB);
    hopper::wgmma<T, Major::k, Major::k>(x, a, b, k > 0);
    if constexpr (kOwn) hopper::wgmma<T, Major::k, Major::k>(y, advanced(own, atTa + onA), b, k > 0);
    if constexpr (kOther) hopper::wgmma<T, Major::k, Major::k>(y, a, advanced(other, atTb + onB), kOwn || k > 0);
  }
}

// x += W·B + tW·tB and y += tW·B, where there are tangents of the own rows to give y to, and of the others; weights are
// in registers, `other` is an operand by columns. Issues only.
template <class T, class Other, bool kOwn, bool kOther, int kSteps, int kMovingSteps, int kMovingColumns>
__device__ __forceinline__ void issueGradients(float (&x)[Other::kColumns / 2], float (&y)[kMovingColumns],
                                               const uint32_t (&w)[kSteps][4], const uint32_t (&tw)[kMovingSteps][4],
                                               uint64_t other, int atB, int atTb) {
  using hopper::Major;
  static_assert(Other::kRows == 16 * kSteps);
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    const int on = 16 * step * Other::kSwizzle;
    const uint64_t b = advanced(other, atB + on);
    hopper::wgmma<T, Major::mn>(x, w[step], b, true);
    if constexpr (kOwn) hopper::wgmma<T, Major::mn>(y, tw[step], b, true);
    if constexpr (kOther) hopper::wgmma<T, Major::mn>(x, tw[step], advanced(other, atTb + on), true);
  }
}

// A warp writes its 16 rows of accumulators as elements, into its own rows of a tile of its block's and from there to
// global memory, where row `row` of the tile is at `to`: `rows` of them, and `columns` elements of each.
template <class Tile, class T>
__device__ __forceinline__ void storeAccumulators(unsigned char* tile, int row, const float (&x)[Tile::kColumns / 2],
                                                  T* to, int64_t stride, int rows, int columns) {
  constexpr int kChunks = Tile::kColumns / 8;
  const int lane = threadIdx.x % 32;
  uint32_t rounded[Tile::kColumns / 16][4];
  hopper::toOperand<T>(rounded, x);
  __syncwarp();
#pragma unroll
  for (int step = 0; step < Tile::kColumns / 16; ++step) {
    ptx::stmatrix(tile + Tile::chunk(row + lane % 16, 16 * step + lane / 16 * 8), rounded[step]);
  }
  __syncwarp();
#pragma unroll 4
  for (int i = lane; i < 16 * kChunks; i += 32) {
    const int r = i / kChunks, chunk = i % kChunks;
    if (r >= rows || chunk * 8 >= columns) continue;
    *reinterpret_cast<uint4*>(to + r * stride + chunk * 8) =
        *reinterpret_cast<const uint4*>(tile + Tile::chunk(row + r, chunk * 8));
  }
}

}  // namespace flowmap::cuda
