// Which matrix of a stack a product of stacks takes where leading dimensions broadcast.
#pragma once

#include <cstdint>

#include "core/shape.h"

namespace flowmap::cpu {

// The index in `x` of the matrix for the matrix `batch` of `out`, both counted over dimensions but the last two.
inline int64_t broadcastOffset(const Shape& out, const Shape& x, int64_t batch) {
  int64_t offset = 0, stride = 1;
  for (int axis = out.rank() - 3; axis >= 0; --axis) {
    const int64_t index = batch % out[axis];
    batch /= out[axis];
    const int at = axis - (out.rank() - x.rank());
    if (at < 0) continue;
    if (x[at] != 1) offset += index * stride;
    stride *= x[at];
  }
  return offset;
}

}  // namespace flowmap::cpu
