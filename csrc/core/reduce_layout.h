// A tensor as a reduction sees it: neighbouring axes that are both kept, or both reduced, are one.
#pragma once

#include <array>
#include <cstdint>

#include "core/shape.h"

namespace flowmap {

// Axes of one kind, kept or reduced, with neighbours merged.
struct ReduceAxes {
  int rank = 0;
  std::array<int64_t, kMaxRank> sizes{}, strides{};

  void push(int64_t size, int64_t stride) {  // from the outermost inwards
    sizes[rank] = size;
    strides[rank++] = stride;
  }
  int64_t count() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= sizes[i];
    return n;
  }
  int64_t offset(int64_t index) const {
    if (rank == 1) return index * strides[0];
    int64_t at = 0;
    for (int i = rank - 1; i >= 0; --i) {
      at += index % sizes[i] * strides[i];
      index /= sizes[i];
    }
    return at;
  }
};

struct ReduceLayout {
  ReduceAxes kept, reduced;  // all but the innermost group
  int64_t inner = 1;         // the innermost group's size; its stride is 1
  bool innerReduced = true;

  ReduceLayout(const Shape& shape, const std::array<bool, kMaxRank>& flags) {
    struct Group {
      int64_t size, stride;
      bool reduced;
    };
    std::array<Group, kMaxRank> groups{};
    int count = 0;
    int64_t stride = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
      const int64_t size = shape[axis];
      if (size != 1) {
        if (count > 0 && groups[count - 1].reduced == flags[axis])
          groups[count - 1].size *= size;
        else
          groups[count++] = {size, stride, flags[axis]};
      }
      stride *= size;
    }
    if (count == 0) return;
    inner = groups[0].size;
    innerReduced = groups[0].reduced;
    for (int i = count - 1; i > 0; --i) (groups[i].reduced ? reduced : kept).push(groups[i].size, groups[i].stride);
  }
};

}  // namespace flowmap
