// Totals over groups of neighbouring threads: a power of two within a warp, or whole warps up to the block.
#pragma once

#include <cstdint>

#include "cuda/launch.cuh"
#include "cuda/scalar_lanes.cuh"

namespace flowmap::cuda {

constexpr int kWarp = 32;
constexpr int kMostWarps = 16;  // of a block that joins groups

// The least power of two that is not below n, at most `most`.
inline int lanesFor(int64_t n, int most) {
  int lanes = 1;
  while (lanes < n && lanes < most) lanes *= 2;
  return lanes;
}

template <class C>
struct Plus {
  __device__ __forceinline__ C operator()(C a, C b) const { return a + b; }
};

// NaN wins, so that a row with one is NaN throughout.
template <class C>
struct Largest {
  __device__ __forceinline__ C operator()(C a, C b) const { return maximum(Lane<C>(), a, b); }
};

// Totals of `lanes` neighbouring threads, a power of two up to a warp, the same bits in all of them. All threads of the
// warp must call it; `join` commutes.
template <int kValues, class C, class Join>
__device__ __forceinline__ void joinLanes(C (&totals)[kValues], int lanes, const Join& join) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
#pragma unroll
    for (int v = 0; v < kValues; ++v) {
      totals[v] = join(totals[v], static_cast<C>(__shfl_xor_sync(0xffffffffu, totals[v], distance)));
    }
  }
}

template <class C, class Join>
__device__ __forceinline__ C joinWarp(C total, const Join& join) {
  C totals[1] = {total};
  joinLanes(totals, kWarp, join);
  return totals[0];
}

// Where warps leave their totals.
template <class C, int kValues = 1>
using WarpTotals = C[kValues][kMostWarps];

// Totals of a group of `lanes` threads, the same bits in all of them. All threads of the block must call it; `join`
// commutes.
template <int kValues, class C, class Join>
__device__ __forceinline__ void joinGroup(C (&totals)[kValues], int lanes, const Join& join,
                                          WarpTotals<C, kValues>& warps) {
  joinLanes(totals, min(lanes, kWarp), join);
  if (lanes <= kWarp) return;
  const int warp = threadIdx.x / kWarp, count = lanes / kWarp, first = warp / count * count;
  if (threadIdx.x % kWarp == 0) {
#pragma unroll
    for (int v = 0; v < kValues; ++v) warps[v][warp] = totals[v];
  }
  __syncthreads();
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    totals[v] = warps[v][first];
    for (int i = 1; i < count; ++i) totals[v] = join(totals[v], warps[v][first + i]);
  }
  __syncthreads();
}

template <class C, class Join>
__device__ __forceinline__ C joinGroup(C total, int lanes, const Join& join, WarpTotals<C>& warps) {
  C totals[1] = {total};
  joinGroup(totals, lanes, join, warps);
  return totals[0];
}

inline int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for units of work that each block walks in strides of the grid.
inline Grid unitGrid(int64_t units, int threads = kThreads) {
  return {dim3(static_cast<unsigned>(std::min<int64_t>(units, 1 << 20))), dim3(static_cast<unsigned>(threads))};
}

}  // namespace flowmap::cuda
