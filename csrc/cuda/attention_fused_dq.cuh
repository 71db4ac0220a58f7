// The gradients of the queries in the kernel of the keys' (attention_dkv.cuh), where they may be added up by atomics:
// three products instead of the nine of a kernel of their own. The warps of a block give each other their weights, and
// each adds some columns of the block's part of gq and gtq to sums in float32.
#pragma once

#include <cmath>

#include "cuda/attention_backward_products.cuh"

namespace flowmap::cuda {

// Two buffers in turn, so that a barrier between writing and reading is enough; gS and gT each.
template <class Tile>
struct SharedWeights {
  static constexpr int kTile = kTileBytes<Tile::kRows, 16>, kBytes = 4 * kTile;
};

// The warp's weights, operands of 16 keys by 16 queries, into the block's tile [keys, 16].
__device__ __forceinline__ void shareWeights(unsigned char* tile, int warpRow, const uint32_t (&weights)[4]) {
  const int row = warpRow + static_cast<int>(threadIdx.x) % 32 / 4, column = threadIdx.x % 4 * 4;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    *reinterpret_cast<uint32_t*>(tile + TileLayout<16>::offset(row + i % 2 * 8, i / 2) + column) = weights[i];
  }
}

// Adds gS K + gT tK to `sums` and gT K to `tangentSums` (null: not wanted) of 16 queries, rows of p.dim elements from
// `row` on and p.queryRows.row apart, of which `left` exist. byRows and byColumns are cursors of the tiles' base.
template <class T, class Tile>
__device__ __forceinline__ void addQueryGradients(uint32_t byRows, uint32_t weightsCursor, int weights, int k, int tk,
                                                  const BackwardParams<T>& p, int64_t row, int left) {
  constexpr int kDim = Tile::kDim, kWarps = Tile::kThreads / 32;
  const int lane = threadIdx.x % 32;
#pragma unroll 1
  for (int column = static_cast<int>(threadIdx.x) / 32 * 16; column < kDim; column += 16 * kWarps) {
    float x[2][4] = {}, y[2][4] = {};
#pragma unroll
    for (int j = 0; j < Tile::kRows; j += 16) {
      uint32_t gs[4], gt[4], b[4], tb[4];
      loadPiece<16, true>(gs, weightsCursor + weights, j, 0);
      loadPiece<16, true>(gt, weightsCursor + weights, j, 0, SharedWeights<Tile>::kTile);
      loadPiece<kDim, true>(b, byRows, j, column, k);
      loadPiece<kDim, true>(tb, byRows, j, column, tk);
      multiplyPiece<T>(x[0], x[1], gs, b);
      multiplyPiece<T>(x[0], x[1], gt, tb);
      multiplyPiece<T>(y[0], y[1], gt, b);
    }
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int query = lane / 4 + i / 2 * 8, at = column + n * 8 + lane % 4 * 2 + i % 2;
        if (query >= left || at >= p.dim) continue;
        const int64_t to = (row + query * p.queryRows.row) * p.dim + at;
        if (p.gqSums != nullptr) atomicAdd(p.gqSums + to, x[n][i]);
        if (p.gtqSums != nullptr) atomicAdd(p.gtqSums + to, y[n][i]);
      }
    }
  }
}

// The sums, scaled and rounded; NaN where it is unknown what queries see.
template <class T>
__global__ void __launch_bounds__(kThreads)
    finishQueryGradientsKernel(const __grid_constant__ BackwardParams<T> p, int64_t count, int64_t ofBatchRow) {
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += int64_t{gridDim.x} * kThreads) {
    bool known = p.packed.absent() || *p.packed.sound != 0;
    if (p.keyLengths != nullptr) {
      const int length = p.keyLengths[i / ofBatchRow];
      known = length >= 0 && length <= p.keys;
    }
    const float factor = known ? p.scale : NAN;
    if (p.gqSums != nullptr) p.gq[i] = static_cast<T>(p.gqSums[i] * factor);
    if (p.gtqSums != nullptr) p.gtq[i] = static_cast<T>(p.gtqSums[i] * factor);
  }
}

}  // namespace flowmap::cuda
