// Contracts of tensors made from nothing.
#pragma once

#include "core/tensor.h"

namespace flowmap::ops {

// -> out [shape], every element `value` (cast to dtype)
Tensor full(Device& device, const Shape& shape, DType dtype, double value);

}  // namespace flowmap::ops
