// What a device must be able to compute: one pure virtual per kernel, so that forgetting one is a compile error.
// Called on the device's stream with checked arguments and outputs that already have memory. An absent optional
// tensor (`!x`) is a symbolic zero as an input and "not needed" as an output. Outputs first, then inputs, then scalars.
#pragma once

#include <vector>

#include "core/elementwise_ops.h"
#include "core/tensor.h"

namespace flowmap {

class Backend {
 public:
  virtual ~Backend() = default;

  // elementwise: shapes broadcast to that of `out`; comparisons and conditions are bool
  virtual void unary(UnaryOp op, const Tensor& out, const Tensor& x) = 0;
  virtual void binary(BinaryOp op, const Tensor& out, const Tensor& a, const Tensor& b) = 0;

  // fill
  virtual void fill(const Tensor& out, double value) = 0;

  // reduce

  // shape

  // matmul

  // norm

  // activation

  // attention

  // random

  // optim

  // gather
};

}  // namespace flowmap
