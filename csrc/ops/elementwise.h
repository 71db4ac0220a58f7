// Contracts of the elementwise operations. Letters: every argument broadcasts to the shape of the result.
#pragma once

#include "core/elementwise_ops.h"
#include "core/tensor.h"

namespace flowmap::ops {

// The shape both arguments broadcast to, as in NumPy; throws Error(Shape) naming the op and both shapes.
Shape broadcastShapes(const char* op, const Shape& a, const Shape& b);

Tensor unary(const char* op, UnaryOp kind, const Tensor& x);
Tensor binary(const char* op, BinaryOp kind, const Tensor& a, const Tensor& b);

}  // namespace flowmap::ops
