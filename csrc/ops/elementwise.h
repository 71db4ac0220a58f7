// Contracts of the elementwise operations. Tensor arguments agree in dtype and device and broadcast to the result's
// shape, as in NumPy; scalars take the tensor's dtype.
#pragma once

#include "core/elementwise_ops.h"
#include "core/optional_tensor.h"
#include "core/tensor.h"

#include <string>

namespace flowmap::ops {

// The shape both arguments broadcast to, as in NumPy; throws Error(Shape) naming the op and both shapes.
Shape broadcastShapes(const char* op, const Shape& a, const Shape& b);

// x [...] -> [...]; floating, for neg, abs, sign and square also int32, for logicalNot bool only
Tensor unary(const char* op, UnaryOp kind, const Tensor& x);
// a [...], b [...] -> [...]; floating, for add, sub, mul, maximum and minimum also int32
Tensor binary(const char* op, BinaryOp kind, const Tensor& a, const Tensor& b);
// x [...] -> [...]: op(x, value), or op(value, x) with scalarFirst
Tensor binaryScalar(const char* op, BinaryOp kind, const Tensor& x, double value, bool scalarFirst);

// a [...], b [...] of any dtype -> bool [...]
Tensor compare(const char* op, CompareOp kind, const Tensor& a, const Tensor& b);
Tensor compareScalar(const char* op, CompareOp kind, const Tensor& x, double value);

// condition bool [...], a [...], b [...] -> [...]. In place of an absent a or b stands the scalar beside it; one of the
// two is there.
Tensor where(const Tensor& condition, const OptionalTensor& a, const OptionalTensor& b, double aValue, double bValue);

// x [...] -> [...]: within [low, high]; infinite bounds are none, NaN stays
Tensor clamp(const Tensor& x, double low, double high);

// x [...] -> [...] of another dtype; shares storage where it is the same
Tensor cast(const Tensor& x, DType dtype);

// x [B, ...] -> the same values; where one is not finite, reading them throws Error(Numerical) naming `what` and the
// row
Tensor checkFinite(const Tensor& x, const std::string& what);

}  // namespace flowmap::ops
