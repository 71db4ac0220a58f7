// Contracts of the operations that only move elements, of any dtype. Axes and positions may be negative: from the end.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace flowmap::ops {

// x [...] -> [shape], sharing storage; one size may be -1: what is left
Tensor reshape(const Tensor& x, const Shape& shape);
// x [...] -> [...] in memory of its own
Tensor copy(const Tensor& x);
// x [...] -> axis i of the result is axis axes[i] of x
Tensor permute(const Tensor& x, const std::vector<int64_t>& axes);
// x [...] -> positions begin, begin + step, ... below end of every axis; out-of-range positions are clipped as in NumPy
Tensor slice(const Tensor& x, const std::vector<int64_t>& begin, const std::vector<int64_t>& end,
             const std::vector<int64_t>& step);
// g, of the shape of a slice -> [shape]: g where the slice came from, zero elsewhere
Tensor sliceVjp(const Tensor& g, const Shape& shape, const std::vector<int64_t>& begin,
                const std::vector<int64_t>& step);
// x [...] -> parts of the given sizes, which add up to the axis, in order
std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t axis);
// tensors that agree but along `axis` -> one after the other along it
Tensor concat(const std::vector<Tensor>& tensors, int64_t axis);
// x [...] -> before[i] + size + after[i] along axis i, `value` around
Tensor pad(const Tensor& x, const std::vector<int64_t>& before, const std::vector<int64_t>& after, double value);
// x [...] -> [shape], repeated along axes that are new or of size 1
Tensor broadcastTo(const Tensor& x, const Shape& shape);
// x [...] -> [...] in the opposite order along `axes`
Tensor flip(const Tensor& x, const std::vector<int64_t>& axes);

}  // namespace flowmap::ops
