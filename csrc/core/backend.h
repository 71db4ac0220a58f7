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

  // matmul: see csrc/ops/matmul.h; an absent ty computes the value alone
  virtual void matmul(const Tensor& out, const Tensor& a, const Tensor& b, bool transposeA, bool transposeB) = 0;
  virtual void linearJvp(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& weight, const Tensor& bias,
                         const Tensor& tx, const Tensor& tweight, const Tensor& tbias) = 0;
  virtual void linearJvpVjp(const Tensor& gx, const Tensor& gweight, const Tensor& gbias, const Tensor& gtx,
                            const Tensor& gtweight, const Tensor& gtbias, const Tensor& x, const Tensor& weight,
                            const Tensor& tx, const Tensor& tweight, const Tensor& g, const Tensor& h) = 0;

  // norm

  // activation

  // attention

  // random
  virtual void randomUniform(const Tensor& out, int64_t seed, int64_t offset, double low, double high) = 0;
  virtual void randomNormal(const Tensor& out, int64_t seed, int64_t offset) = 0;
  virtual void randomIntegers(const Tensor& out, int64_t seed, int64_t offset, int64_t low, int64_t high) = 0;
  virtual void randomPermutation(const Tensor& out, int64_t seed, int64_t offset) = 0;

  // optim
  virtual void adamwStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
                 const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const Tensor& gradScale,
                 double learningRate, double beta1, double beta2, double eps, double weightDecay, int64_t step) = 0;
  virtual void emaUpdate(const std::vector<Tensor>& averages, const std::vector<Tensor>& params, double decay) = 0;
  virtual void globalNorm(const Tensor& out, const std::vector<Tensor>& tensors) = 0;
  virtual void clipScale(const Tensor& out, const Tensor& norm, double maxNorm) = 0;
  virtual void copyInto(const Tensor& target, const Tensor& source) = 0;

  // gather
};

}  // namespace flowmap
