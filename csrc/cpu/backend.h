// The CPU's kernels. Bodies live in one file per family: cpu/<family>.cc.
#pragma once

#include "core/backend.h"

namespace flowmap::cpu {

class CpuBackend final : public Backend {
 public:
  // elementwise
  void unary(UnaryOp op, const Tensor& out, const Tensor& x) override;
  void binary(BinaryOp op, const Tensor& out, const Tensor& a, const Tensor& b) override;

  // fill
  void fill(const Tensor& out, double value) override;

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

}  // namespace flowmap::cpu
