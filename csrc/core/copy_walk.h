// How a copy between two orders of elements walks both.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "core/strided.h"

namespace flowmap {

// The walk with as few axes as possible, ordered by the output's strides, the innermost last.
struct CopyWalk {
  int rank = 0;
  std::array<int64_t, kMaxRank> sizes{}, out{}, in{};

  CopyWalk(const Shape& shape, const StridedView& outView, const StridedView& inView) {
    for (int axis = 0; axis < shape.rank(); ++axis) {
      if (shape[axis] == 1) continue;
      const int last = rank - 1;
      if (rank > 0 && out[last] == outView.strides[axis] * shape[axis] &&
          in[last] == inView.strides[axis] * shape[axis]) {
        sizes[last] *= shape[axis];
        out[last] = outView.strides[axis];
        in[last] = inView.strides[axis];
        continue;
      }
      sizes[rank] = shape[axis];
      out[rank] = outView.strides[axis];
      in[rank++] = inView.strides[axis];
    }
    if (rank == 0) push(1, 1, 1);
  }
  void push(int64_t size, int64_t outStride, int64_t inStride) {
    sizes[rank] = size;
    out[rank] = outStride;
    in[rank++] = inStride;
  }
  int64_t count(int first) const {
    int64_t n = 1;
    for (int axis = 0; axis < first; ++axis) n *= sizes[axis];
    return n;
  }
  // Offsets of the `index`-th position in the first `axes` axes.
  std::pair<int64_t, int64_t> offsets(int64_t index, int axes) const {
    int64_t o = 0, i = 0;
    for (int axis = axes - 1; axis >= 0; --axis) {
      const int64_t at = index % sizes[axis];
      index /= sizes[axis];
      o += at * out[axis];
      i += at * in[axis];
    }
    return {o, i};
  }
  // The axis along which the input lies side by side where the output does not, if there is one and it is worth tiles;
  // else -1.
  int transposed() const {
    const int inner = rank - 1;
    int other = -1;
    if (out[inner] == 1 && in[inner] > 1 && sizes[inner] >= 8) {
      for (int axis = 0; axis < inner; ++axis) {
        if (in[axis] == 1 && sizes[axis] >= 8) other = axis;
      }
    }
    return other;
  }
};

}  // namespace flowmap
