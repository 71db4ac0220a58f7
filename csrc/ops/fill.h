// Contracts of tensors made from nothing.
#pragma once

#include "core/tensor.h"

namespace flowmap::ops {

// -> out [shape], every element `value` (cast to dtype)
Tensor full(Device& device, const Shape& shape, DType dtype, double value);

// -> out [n]: start, start + step, ... below `stop` (above it for a negative step)
Tensor arange(Device& device, double start, double stop, double step, DType dtype);

// -> out [rows, columns], ones on the diagonal
Tensor eye(Device& device, int64_t rows, int64_t columns, DType dtype);

}  // namespace flowmap::ops
