// How a kernel walks a tensor's elements where the order is not its own: an offset and one stride per axis, in
// elements.
#pragma once

#include <array>
#include <cstdint>

#include "core/shape.h"

namespace flowmap {

struct StridedView {
  int64_t offset = 0;
  std::array<int64_t, kMaxRank> strides{};
};

inline StridedView contiguousView(const Shape& shape) {
  StridedView view;
  int64_t next = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    view.strides[axis] = next;
    next *= shape[axis];
  }
  return view;
}

}  // namespace flowmap
