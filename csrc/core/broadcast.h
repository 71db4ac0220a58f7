// How operands of fewer or smaller axes line up with a contiguous output, with as few axes as possible: neighbours that
// every operand walks alike are merged. The innermost axis then has step 1 or 0 in every operand.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>

#include "core/tensor.h"

namespace flowmap {

template <int kOperands>
struct BroadcastPlan {
  int rank = 0;
  std::array<int64_t, kMaxRank> sizes{};
  std::array<std::array<int64_t, kMaxRank>, kOperands> strides{};  // in elements; 0 where an operand repeats

  BroadcastPlan(const Shape& out, const std::array<Tensor, kOperands>& operands) {
    // Built from the innermost axis outwards, reversed at the end.
    std::array<int64_t, kOperands> next;
    next.fill(1);
    for (int axis = out.rank() - 1; axis >= 0; --axis) {
      std::array<int64_t, kOperands> stride{};
      for (int k = 0; k < kOperands; ++k) {
        const Tensor& x = operands[k];
        const int own = x ? axis - (out.rank() - x.rank()) : -1;
        if (own < 0) continue;
        if (x.shape()[own] != 1) stride[k] = next[k];
        next[k] *= x.shape()[own];
      }
      if (out[axis] == 1) continue;
      bool merge = rank > 0;
      for (int k = 0; k < kOperands && merge; ++k) merge = stride[k] == strides[k][rank - 1] * sizes[rank - 1];
      if (merge) {
        sizes[rank - 1] *= out[axis];
        continue;
      }
      sizes[rank] = out[axis];
      for (int k = 0; k < kOperands; ++k) strides[k][rank] = stride[k];
      ++rank;
    }
    if (rank == 0) sizes[rank++] = 1;
    std::reverse(sizes.begin(), sizes.begin() + rank);
    for (auto& stride : strides) std::reverse(stride.begin(), stride.begin() + rank);
  }

  int64_t inner() const { return sizes[rank - 1]; }
  int step(int operand) const { return static_cast<int>(strides[operand][rank - 1]); }
  bool contiguous(int operand) const { return rank == 1 && strides[operand][0] == 1; }

  // body(first, n, offsets) for the parts of rows that make up [begin, end) of the output, in order.
  template <class Body>
  void forEachRun(int64_t begin, int64_t end, Body body) const {
    std::array<int64_t, kMaxRank> index{};
    std::array<int64_t, kOperands> offset{};
    int64_t rest = begin;
    for (int axis = rank - 1; axis >= 0; --axis) {
      index[axis] = rest % sizes[axis];
      rest /= sizes[axis];
      for (int k = 0; k < kOperands; ++k) offset[k] += index[axis] * strides[k][axis];
    }
    for (int64_t at = begin; at < end;) {
      const int64_t n = std::min(end - at, inner() - index[rank - 1]);
      body(at, n, offset);
      at += n;
      index[rank - 1] += n;
      for (int k = 0; k < kOperands; ++k) offset[k] += n * strides[k][rank - 1];
      for (int axis = rank - 1; axis > 0 && index[axis] == sizes[axis]; --axis) {
        index[axis] = 0;
        ++index[axis - 1];
        for (int k = 0; k < kOperands; ++k) offset[k] += strides[k][axis - 1] - sizes[axis] * strides[k][axis];
      }
    }
  }
};

}  // namespace flowmap
