// Contracts of the reductions. Axes may be negative; none given means none reduced. With keepDims a reduced axis stays,
// of size 1.
#pragma once

#include <vector>

#include "core/elementwise_ops.h"
#include "core/tensor.h"

namespace flowmap::ops {

// x [...] -> [kept axes]; sum: floating, int32 (wraps), bool (counts, as int32); mean: floating; max, min: floating,
// int32
Tensor reduce(const char* op, ReduceOp kind, const Tensor& x, const std::vector<int64_t>& axes, bool keepDims);
// x bool [...] -> bool [kept axes]
Tensor any(const Tensor& x, const std::vector<int64_t>& axes, bool keepDims);
Tensor all(const Tensor& x, const std::vector<int64_t>& axes, bool keepDims);
// x [..., n, ...] -> int32 [...] without that axis (of size 1 with keepDims): the first extreme, or the first NaN
Tensor argReduce(const char* op, ArgReduceOp kind, const Tensor& x, int64_t axis, bool keepDims);
// x [...] -> [shape]: the sum over the axes along which `shape` was broadcast to that of x
Tensor sumTo(const Tensor& x, const Shape& shape);

}  // namespace flowmap::ops
