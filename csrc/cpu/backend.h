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
  void matmul(const Tensor& out, const Tensor& a, const Tensor& b, bool transposeA, bool transposeB) override;
  void linearJvp(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& weight, const Tensor& bias,
                 const Tensor& tx, const Tensor& tweight, const Tensor& tbias) override;
  void linearJvpVjp(const Tensor& gx, const Tensor& gweight, const Tensor& gbias, const Tensor& gtx,
                    const Tensor& gtweight, const Tensor& gtbias, const Tensor& x, const Tensor& weight,
                    const Tensor& tx, const Tensor& tweight, const Tensor& g, const Tensor& h) override;

  // norm

  // activation

  // attention

  // random
  void randomUniform(const Tensor& out, int64_t seed, int64_t offset, double low, double high) override;
  void randomNormal(const Tensor& out, int64_t seed, int64_t offset) override;
  void randomIntegers(const Tensor& out, int64_t seed, int64_t offset, int64_t low, int64_t high) override;
  void randomPermutation(const Tensor& out, int64_t seed, int64_t offset) override;

  // optim
  void adamwStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
                 const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const Tensor& gradScale,
                 double learningRate, double beta1, double beta2, double eps, double weightDecay, int64_t step) override;
  void emaUpdate(const std::vector<Tensor>& averages, const std::vector<Tensor>& params, double decay) override;
  void globalNorm(const Tensor& out, const std::vector<Tensor>& tensors) override;
  void clipScale(const Tensor& out, const Tensor& norm, double maxNorm) override;
  void copyInto(const Tensor& target, const Tensor& source) override;

  // gather
};

}  // namespace flowmap::cpu
