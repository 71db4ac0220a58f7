// Sums over the threads of a block, many at once and in double: lanes halve among them what is to be added up, so that
// each ends with one sum, and warps are added in order.
#pragma once

#include <cstdint>

#include "cuda/mmd_plan.cuh"

namespace flowmap::cuda {

// Lanes that are kHalf apart share what they hold: the lower keeps the first half of it.
template <int kHalf, int kBatch>
__device__ __forceinline__ void mmdHalve(double (&held)[kBatch]) {
  if constexpr (kHalf > 0) {
    const bool upper = threadIdx.x & kHalf;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const double low = held[i], high = held[i + kHalf];
      held[i] = (upper ? high : low) + __shfl_xor_sync(0xffffffffu, upper ? low : high, kHalf);
    }
    mmdHalve<kHalf / 2>(held);
  }
}

// Lane l gets the warp's sum of values[kFirst + l % kBatch], kBatch a power of two up to a warp; what is beyond N is
// zero.
template <int kFirst, int kBatch, int N, class C>
__device__ __forceinline__ double mmdWarpSum(const C (&values)[N]) {
  double held[kBatch];
#pragma unroll
  for (int i = 0; i < kBatch; ++i) held[i] = kFirst + i < N ? static_cast<double>(values[min(kFirst + i, N - 1)]) : 0.0;
  mmdHalve<kBatch / 2>(held);
#pragma unroll
  for (int distance = kBatch; distance < kWarp; distance *= 2) {
    held[0] += __shfl_xor_sync(0xffffffffu, held[0], distance);
  }
  return held[0];
}

constexpr __host__ __device__ int mmdPowerOfTwo(int n, int most) {
  int power = 1;
  while (power < n && power < most) power *= 2;
  return power;
}

// At most kWidth sums at once. Room: see bytes.
template <int kWidth>
class MmdJoin {
 public:
  __device__ __forceinline__ explicit MmdJoin(char* room) : room_(reinterpret_cast<double*>(room)) {}
  static constexpr __host__ __device__ int64_t bytes(int threads) {
    return static_cast<int64_t>(2 * sizeof(double)) * kWidth * (threads / kWarp);
  }

  // put(i, the sum of values[i] over the block), by one thread for each i. All threads must come; what was put is
  // visible to them after the next barrier, and what they wrote before to those that put.
  template <int N, class C, class Put>
  __device__ __forceinline__ void operator()(const C (&values)[N], Put put) {
    static_assert(N <= kWidth && N <= 2 * kWarp);
    constexpr int kBatch = mmdPowerOfTwo(N, kWarp);
    const int warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
    // Two rooms in turn: nobody writes to one that others still read.
    double* room = room_ + (turn_ ? kWidth * (static_cast<int>(blockDim.x) / kWarp) : 0);
    turn_ = !turn_;
    const double first = mmdWarpSum<0, kBatch>(values);
    if (lane < kBatch) room[warp * kWidth + lane] = first;
    if constexpr (N > kWarp) room[warp * kWidth + kWarp + lane] = mmdWarpSum<kWarp, kWarp>(values);
    __syncthreads();
    for (int i = threadIdx.x; i < N; i += static_cast<int>(blockDim.x)) {
      double total = room[i];
      for (int other = 1; other < static_cast<int>(blockDim.x) / kWarp; ++other) total += room[other * kWidth + i];
      put(i, total);
    }
  }

 private:
  double* room_;
  bool turn_ = false;
};

}  // namespace flowmap::cuda
