// What a device must be able to compute: one pure virtual per kernel, so that forgetting one is a compile error.
// Called on the device's stream with checked arguments and outputs that already have memory. An absent optional
// tensor (`!x`) is a symbolic zero as an input and "not needed" as an output. Outputs first, then inputs, then scalars.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "core/attention_args.h"
#include "core/elementwise_ops.h"
#include "core/mmd_args.h"
#include "core/norm_args.h"
#include "core/strided.h"
#include "core/tensor.h"

namespace flowmap {

class Backend {
 public:
  virtual ~Backend() = default;

  // Throws Error(Device) naming `op` once the device has failed for good. Any thread.
  virtual void refuse(const std::string& op) const {}
  // On the stream's thread, around the kernels of an op: a failure that shows later is to name it. `enter` refuses.
  virtual void enter(const char* op) {}
  virtual void leave() {}

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

  // y = x; throws Error(Numerical) naming `what` and the first row (index of the first axis) with a NaN or infinity
  virtual void checkFinite(const Tensor& y, const Tensor& x, const std::string& what) = 0;

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

  // matmul: see csrc/ops/matmul.h; an absent ty computes the value alone
  // Whether products of float32 may round their factors to TF32. Where there is no such arithmetic it changes nothing.
  virtual void allowTf32(bool allowed) {}
  virtual void matmul(const Tensor& out, const Tensor& a, const Tensor& b, bool transposeA, bool transposeB) = 0;
  virtual void linearJvp(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& weight, const Tensor& bias,
                         const Tensor& tx, const Tensor& tweight, const Tensor& tbias) = 0;
  virtual void linearJvpVjp(const Tensor& gx, const Tensor& gweight, const Tensor& gbias, const Tensor& gtx,
                            const Tensor& gtweight, const Tensor& gtbias, const Tensor& x, const Tensor& weight,
                            const Tensor& tx, const Tensor& tweight, const Tensor& g, const Tensor& h) = 0;

  // norm
  virtual void norm(const NormLayout& layout, const Tensor& y, const Tensor& ty, const NormOperands& in) = 0;
  virtual void normVjp(const NormLayout& layout, const NormGradients& out, const NormOperands& in, const Tensor& g,
                       const Tensor& h) = 0;
  // Results and cotangents of q, k, v and of their tangents; absent ones are not wanted, or zero.
  virtual void splitQkv(const QkvLayout& layout, const std::array<Tensor, 6>& out, const QkvOperands& in) = 0;
  virtual void splitQkvVjp(const QkvLayout& layout, const QkvGradients& out, const QkvOperands& in,
                           const std::array<Tensor, 6>& cotangents) = 0;
  virtual void gatedResidual(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& gate, const Tensor& z,
                             const Tensor& tx, const Tensor& tgate, const Tensor& tz) = 0;
  virtual void gatedResidualVjp(const Tensor& ggate, const Tensor& gz, const Tensor& gtgate, const Tensor& gtz,
                                const Tensor& gate, const Tensor& z, const Tensor& tgate, const Tensor& tz,
                                const Tensor& g, const Tensor& h) = 0;
  virtual void softmax(const Tensor& y, const Tensor& x) = 0;

  // activation
  virtual void activation(ActivationOp op, const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& tx) = 0;
  virtual void activationVjp(ActivationOp op, const Tensor& gx, const Tensor& gtx, const Tensor& x, const Tensor& tx,
                             const Tensor& g, const Tensor& h) = 0;

  // attention
  virtual void attention(const AttentionGeometry& geometry, const AttentionResults& out,
                         const AttentionOperands& in) = 0;
  virtual void attentionVjp(const AttentionGeometry& geometry, const AttentionGradients& out,
                            const AttentionOperands& in, const AttentionResults& saved, const Tensor& g,
                            const Tensor& h) = 0;

  // random
  virtual void randomUniform(const Tensor& out, int64_t seed, int64_t offset, double low, double high) = 0;
  virtual void randomNormal(const Tensor& out, int64_t seed, int64_t offset) = 0;
  virtual void randomIntegers(const Tensor& out, int64_t seed, int64_t offset, int64_t low, int64_t high) = 0;
  virtual void randomPermutation(const Tensor& out, int64_t seed, int64_t offset) = 0;

  // optim
  virtual void adamwStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                         const std::vector<Tensor>& m, const std::vector<Tensor>& v, const std::vector<Tensor>& masters,
                         const Tensor& gradScale, double learningRate, double beta1, double beta2, double eps,
                         double weightDecay, int64_t step) = 0;
  virtual void radamStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                         const std::vector<Tensor>& m, const std::vector<Tensor>& v, const std::vector<Tensor>& masters,
                         const Tensor& gradScale, double learningRate, double beta1, double beta2, double eps,
                         double weightDecay, bool decoupled, int64_t step) = 0;
  virtual void emaUpdate(const std::vector<Tensor>& averages, const std::vector<Tensor>& params, double decay) = 0;
  virtual void globalNorm(const Tensor& out, const std::vector<Tensor>& tensors) = 0;
  virtual void clipScale(const Tensor& out, const Tensor& norm, double maxNorm) = 0;
  virtual void copyInto(const Tensor& target, const Tensor& source) = 0;

  // gather: an index out of range throws Error(Argument) before anything is read or written
  virtual void take(const Tensor& out, const Tensor& x, const Tensor& indices, int axis) = 0;
  virtual void takeVjp(const Tensor& gx, const Tensor& g, const Tensor& indices, int axis) = 0;
  virtual void oneHot(const Tensor& out, const Tensor& indices) = 0;

  // mmd: an absent tangent, with absent tx and ty, computes the value alone. A weight that is negative or not finite
  // throws Error(Argument) before anything is written.
  virtual void mmd(const MmdOptions& options, const Tensor& value, const Tensor& tangent, const MmdOperands& in,
                   const Tensor& tx, const Tensor& ty) = 0;
  virtual void mmdVjp(const MmdOptions& options, const Tensor& value, const Tensor& gx, const Tensor& gy,
                      const MmdOperands& in, const Tensor& g) = 0;
};

}  // namespace flowmap
