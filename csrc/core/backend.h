// What a device must be able to compute: one pure virtual per kernel, so that forgetting one is a compile error.
// Called on the device's stream with checked arguments and outputs that already have memory. An absent optional
// tensor (`!x`) is a symbolic zero as an input and "not needed" as an output. Outputs first, then inputs, then scalars.
#pragma once

#include <array>
#include <vector>

#include "core/elementwise_ops.h"
#include "core/strided.h"
#include "core/tensor.h"

namespace flowmap {

class Backend {
 public:
  virtual ~Backend() = default;

  // elementwise: shapes broadcast to that of `out`; comparisons and conditions are bool
  virtual void unary(UnaryOp op, const Tensor& out, const Tensor& x) = 0;
  virtual void binary(BinaryOp op, const Tensor& out, const Tensor& a, const Tensor& b) = 0;
  virtual void binaryScalar(BinaryOp op, const Tensor& out, const Tensor& x, double value, bool scalarFirst) = 0;
  virtual void compare(CompareOp op, const Tensor& out, const Tensor& a, const Tensor& b) = 0;
  virtual void compareScalar(CompareOp op, const Tensor& out, const Tensor& x, double value) = 0;
  // an absent a or b is the scalar beside it
  virtual void where(const Tensor& out, const Tensor& condition, const Tensor& a, const Tensor& b, double aValue,
                     double bValue) = 0;
  virtual void clamp(const Tensor& out, const Tensor& x, double low, double high) = 0;
  virtual void cast(const Tensor& out, const Tensor& x) = 0;

  // fill
  virtual void fill(const Tensor& out, double value) = 0;
  virtual void arange(const Tensor& out, double start, double step) = 0;
  virtual void eye(const Tensor& out) = 0;

  // reduce: over the axes of `x` that are set in `reduced`; out has the kept ones, in order, and may also have ones
  virtual void reduce(ReduceOp op, const Tensor& out, const Tensor& x, const std::array<bool, kMaxRank>& reduced) = 0;
  virtual void argReduce(ArgReduceOp op, const Tensor& out, const Tensor& x, int axis) = 0;

  // shape: out[outView(i)] = x[xView(i)] for every index i below `sizes`; same dtype
  virtual void copyStrided(const Tensor& out, const StridedView& outView, const Tensor& x, const StridedView& xView,
                           const Shape& sizes) = 0;

  // matmul

  // norm

  // activation

  // attention

  // random

  // optim

  // gather: an index out of range throws Error(Argument) before anything is read or written
  virtual void take(const Tensor& out, const Tensor& x, const Tensor& indices, int axis) = 0;
  virtual void takeVjp(const Tensor& gx, const Tensor& g, const Tensor& indices, int axis) = 0;
  virtual void oneHot(const Tensor& out, const Tensor& indices) = 0;
};

}  // namespace flowmap
