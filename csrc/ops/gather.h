// Contracts of gathering by index. Indices are int32 tensors of any shape; one that is out of range is an error of the
// result, thrown where it is read.
#pragma once

#include "core/tensor.h"

namespace flowmap::ops {

// x [a, n, b], indices [i] of values in [0, n) -> [a, i, b], where n is axis `axis` of x
Tensor take(const Tensor& x, const Tensor& indices, int64_t axis);
// g [a, i, b], indices [i] -> [a, n, b]: g added up where `take` took from; shape is that of take's x
Tensor takeVjp(const Tensor& g, const Tensor& indices, const Shape& shape, int64_t axis);
// indices [i] of values in [0, depth) -> [i, depth]
Tensor oneHot(const Tensor& indices, int64_t depth, DType dtype);

}  // namespace flowmap::ops
