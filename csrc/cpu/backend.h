// The CPU's kernels. Bodies live in one file per family: cpu/<family>.cc.
#pragma once

#include "core/backend.h"

namespace flowmap::cpu {

class CpuBackend final : public Backend {
 public:
  // elementwise
  void unary(UnaryOp op, const Tensor& out, const Tensor& x) override;
  void binary(BinaryOp op, const Tensor& out, const Tensor& a, const Tensor& b) override;
  void binaryScalar(BinaryOp op, const Tensor& out, const Tensor& x, double value, bool scalarFirst) override;
  void compare(CompareOp op, const Tensor& out, const Tensor& a, const Tensor& b) override;
  void compareScalar(CompareOp op, const Tensor& out, const Tensor& x, double value) override;
  void where(const Tensor& out, const Tensor& condition, const Tensor& a, const Tensor& b, double aValue,
                     double bValue) override;
  void clamp(const Tensor& out, const Tensor& x, double low, double high) override;
  void cast(const Tensor& out, const Tensor& x) override;

  // fill
  void fill(const Tensor& out, double value) override;
  void arange(const Tensor& out, double start, double step) override;
  void eye(const Tensor& out) override;

  // reduce
  void reduce(ReduceOp op, const Tensor& out, const Tensor& x, const std::array<bool, kMaxRank>& reduced) override;
  void argReduce(ArgReduceOp op, const Tensor& out, const Tensor& x, int axis) override;

  // shape
  void copyStrided(const Tensor& out, const StridedView& outView, const Tensor& x, const StridedView& xView,
                           const Shape& sizes) override;

  // matmul

  // norm

  // activation

  // attention

  // random

  // optim

  // gather
  void take(const Tensor& out, const Tensor& x, const Tensor& indices, int axis) override;
  void takeVjp(const Tensor& gx, const Tensor& g, const Tensor& indices, int axis) override;
  void oneHot(const Tensor& out, const Tensor& indices) override;
};

}  // namespace flowmap::cpu
