#include "ops/reduce.h"

#include <limits>

#include "core/check.h"
#include "core/launch.h"

namespace flowmap::ops {
namespace {

using Flags = std::array<bool, kMaxRank>;

Flags reducedAxes(const char* op, const Tensor& x, const std::vector<int64_t>& axes) {
  Flags flags{};
  for (int64_t axis : axes) {
    bool& flag = flags[checkAxis(op, "axes", axis, x.rank())];
    if (flag) fail(ErrorCode::Shape, op, "axes must be distinct, got ", axis, " again");
    flag = true;
  }
  return flags;
}

Shape reducedShape(const Shape& shape, const Flags& flags, bool keepDims) {
  Shape out;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (!flags[axis])
      out.push(shape[axis]);
    else if (keepDims)
      out.push(1);
  }
  return out;
}

Tensor launchReduce(const char* op, ReduceOp kind, const Tensor& x, const Flags& flags, const Shape& shape) {
  const bool counts = kind == ReduceOp::Sum && x.dtype() == DType::Bool;
  const Tensor out = Tensor::empty(x.device(), shape, counts ? DType::Int32 : x.dtype());
  launch(op, x.device(), {out}, {x}, [=](Backend& backend) { backend.reduce(kind, out, x, flags); });
  return out;
}

// Bytes of 0 and 1: any is their maximum and all their minimum. Of no elements any is false, and all is true.
Tensor reduceBool(const char* op, ReduceOp kind, const Tensor& x, const std::vector<int64_t>& axes, bool keepDims) {
  checkDType(op, "x", x, DType::Bool);
  const Flags flags = reducedAxes(op, x, axes);
  const Shape shape = reducedShape(x.shape(), flags, keepDims);
  if (x.numel() > 0 || kind == ReduceOp::Max) return launchReduce(op, kind, x, flags, shape);
  const Tensor out = Tensor::empty(x.device(), shape, DType::Bool);
  launch(op, x.device(), {out}, {x}, [=](Backend& backend) { backend.fill(out, 1); });
  return out;
}

}  // namespace

Tensor reduce(const char* op, ReduceOp kind, const Tensor& x, const std::vector<int64_t>& axes, bool keepDims) {
  if (kind == ReduceOp::Mean) checkFloating(op, "x", x);
  if ((kind == ReduceOp::Max || kind == ReduceOp::Min) && x.dtype() == DType::Bool) {
    fail(ErrorCode::DType, op, "x must be floating or int32 (any and all reduce bool), got bool");
  }
  const Flags flags = reducedAxes(op, x, axes);
  const Shape shape = reducedShape(x.shape(), flags, keepDims);
  if ((kind == ReduceOp::Max || kind == ReduceOp::Min) && x.numel() == 0 && shape.numel() > 0) {
    fail(ErrorCode::Shape, op, "x must have at least one element along the reduced axes, got shape ", x.shape());
  }
  return launchReduce(op, kind, x, flags, shape);
}

Tensor any(const Tensor& x, const std::vector<int64_t>& axes, bool keepDims) {
  return reduceBool("any", ReduceOp::Max, x, axes, keepDims);
}

Tensor all(const Tensor& x, const std::vector<int64_t>& axes, bool keepDims) {
  return reduceBool("all", ReduceOp::Min, x, axes, keepDims);
}

Tensor argReduce(const char* op, ArgReduceOp kind, const Tensor& x, int64_t axis, bool keepDims) {
  const int at = checkAxis(op, "axis", axis, x.rank());
  if (x.shape()[at] == 0) {
    fail(ErrorCode::Shape, op, "x must have at least one element along axis ", at, ", got shape ", x.shape());
  }
  if (x.shape()[at] > std::numeric_limits<int32_t>::max()) {
    fail(ErrorCode::Shape, op, "x must have fewer than 2^31 elements along axis ", at, ", got shape ", x.shape());
  }
  Flags flags{};
  flags[at] = true;
  const Tensor out = Tensor::empty(x.device(), reducedShape(x.shape(), flags, keepDims), DType::Int32);
  launch(op, x.device(), {out}, {x}, [=](Backend& backend) { backend.argReduce(kind, out, x, at); });
  return out;
}

Tensor sumTo(const Tensor& x, const Shape& shape) {
  if (x.shape() == shape) return x;
  if (x.dtype() == DType::Bool) fail(ErrorCode::DType, "sumTo", "x must be floating or int32, got bool");
  const int extra = x.rank() - shape.rank();
  if (extra < 0) fail(ErrorCode::Shape, "sumTo", "shape must broadcast to x's shape ", x.shape(), ", got ", shape);
  Flags flags{};
  for (int axis = 0; axis < x.rank(); ++axis) {
    const int64_t size = axis < extra ? 1 : shape[axis - extra];
    if (size != 1 && size != x.shape()[axis]) {
      fail(ErrorCode::Shape, "sumTo", "shape must broadcast to x's shape ", x.shape(), ", got ", shape);
    }
    flags[axis] = axis < extra || (size == 1 && x.shape()[axis] != 1);
  }
  return launchReduce("sumTo", ReduceOp::Sum, x, flags, shape);
}

}  // namespace flowmap::ops
