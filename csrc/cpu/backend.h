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

  void checkFinite(const Tensor& y, const Tensor& x, const std::string& what) override;

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
  void matmul(const Tensor& out, const Tensor& a, const Tensor& b, bool transposeA, bool transposeB) override;
  void linearJvp(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& weight, const Tensor& bias,
                 const Tensor& tx, const Tensor& tweight, const Tensor& tbias) override;
  void linearJvpVjp(const Tensor& gx, const Tensor& gweight, const Tensor& gbias, const Tensor& gtx,
                    const Tensor& gtweight, const Tensor& gtbias, const Tensor& x, const Tensor& weight,
                    const Tensor& tx, const Tensor& tweight, const Tensor& g, const Tensor& h) override;

  // norm
  void norm(const NormLayout& layout, const Tensor& y, const Tensor& ty, const NormOperands& in) override;
  void normVjp(const NormLayout& layout, const NormGradients& out, const NormOperands& in, const Tensor& g,
               const Tensor& h) override;
  void splitQkv(const QkvLayout& layout, const std::array<Tensor, 6>& out, const QkvOperands& in) override;
  void splitQkvVjp(const QkvLayout& layout, const QkvGradients& out, const QkvOperands& in,
                   const std::array<Tensor, 6>& cotangents) override;
  void gatedResidual(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& gate, const Tensor& z,
                     const Tensor& tx, const Tensor& tgate, const Tensor& tz) override;
  void gatedResidualVjp(const Tensor& ggate, const Tensor& gz, const Tensor& gtgate, const Tensor& gtz,
                        const Tensor& gate, const Tensor& z, const Tensor& tgate, const Tensor& tz, const Tensor& g,
                        const Tensor& h) override;
  void softmax(const Tensor& y, const Tensor& x) override;

  // activation
  void activation(ActivationOp op, const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& tx) override;
  void activationVjp(ActivationOp op, const Tensor& gx, const Tensor& gtx, const Tensor& x, const Tensor& tx,
                     const Tensor& g, const Tensor& h) override;

  // attention
  void attention(const AttentionGeometry& geometry, const AttentionResults& out, const AttentionOperands& in) override;
  void attentionVjp(const AttentionGeometry& geometry, const AttentionGradients& out, const AttentionOperands& in,
                    const AttentionResults& saved, const Tensor& g, const Tensor& h) override;

  // random
  void randomUniform(const Tensor& out, int64_t seed, int64_t offset, double low, double high) override;
  void randomNormal(const Tensor& out, int64_t seed, int64_t offset) override;
  void randomIntegers(const Tensor& out, int64_t seed, int64_t offset, int64_t low, int64_t high) override;
  void randomPermutation(const Tensor& out, int64_t seed, int64_t offset) override;

  // optim
  void adamwStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
                 const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const Tensor& gradScale,
                 double learningRate, double beta1, double beta2, double eps, double weightDecay,
                 int64_t step) override;
  void radamStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
                 const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const Tensor& gradScale,
                 double learningRate, double beta1, double beta2, double eps, double weightDecay, bool decoupled,
                 int64_t step) override;
  void emaUpdate(const std::vector<Tensor>& averages, const std::vector<Tensor>& params, double decay) override;
  void globalNorm(const Tensor& out, const std::vector<Tensor>& tensors) override;
  void clipScale(const Tensor& out, const Tensor& norm, double maxNorm) override;
  void copyInto(const Tensor& target, const Tensor& source) override;

  // gather
  void take(const Tensor& out, const Tensor& x, const Tensor& indices, int axis) override;
  void takeVjp(const Tensor& gx, const Tensor& g, const Tensor& indices, int axis) override;
  void oneHot(const Tensor& out, const Tensor& indices) override;

  // mmd
  void mmd(const MmdOptions& options, const Tensor& value, const Tensor& tangent, const MmdOperands& in,
           const Tensor& tx, const Tensor& ty) override;
  void mmdVjp(const MmdOptions& options, const Tensor& value, const Tensor& gx, const Tensor& gy, const MmdOperands& in,
              const Tensor& g) override;
};

}  // namespace flowmap::cpu
