// Positions counted over several axes, turned into offsets.
#pragma once

#include <array>

#include "core/shape.h"
#include "cuda/divisor.h"

namespace flowmap::cuda {

struct StridedAxes {
  int rank = 0;
  Divisor axes[kMaxRank];  // innermost first
  int64_t strides[kMaxRank] = {};

  StridedAxes() = default;
  // Outermost first.
  StridedAxes(int count, const std::array<int64_t, kMaxRank>& sizes, const std::array<int64_t, kMaxRank>& steps)
      : rank(count) {
    int64_t positions = 1;
    for (int i = 0; i < rank; ++i) positions *= sizes[i];
    for (int i = 0; i < rank; ++i) {
      axes[i] = Divisor(sizes[rank - 1 - i], positions);
      strides[i] = steps[rank - 1 - i];
    }
  }
#if defined(__CUDACC__)
  __device__ __forceinline__ int64_t offset(int64_t position) const {
    if (rank == 0) return 0;
    int64_t at = 0;
    for (int i = 0; i + 1 < rank; ++i) at += axes[i].take(position) * strides[i];
    return at + position * strides[rank - 1];
  }
  // The same for two walks over the same axes.
  __device__ __forceinline__ void offsets(int64_t position, const StridedAxes& other, int64_t& mine,
                                          int64_t& theirs) const {
    mine = theirs = 0;
    for (int i = 0; i + 1 < rank; ++i) {
      const int64_t index = axes[i].take(position);
      mine += index * strides[i];
      theirs += index * other.strides[i];
    }
    mine += position * strides[rank - 1];
    theirs += position * other.strides[rank - 1];
  }
#endif
};

}  // namespace flowmap::cuda
