#include "ops/mmd.h"

#include "core/check.h"
#include "core/launch.h"
#include "core/mmd_args.h"

namespace flowmap::ops {
namespace {

MmdKernel kernelByName(const char* op, const std::string& name) {
  if (name == "laplace") return MmdKernel::Laplace;
  if (name == "rbf") return MmdKernel::Rbf;
  if (name == "imq") return MmdKernel::Imq;
  if (name == "energy") return MmdKernel::Energy;
  fail(ErrorCode::Argument, op, "kernel must be one of 'laplace', 'rbf', 'imq', 'energy', got '", name, "'");
}

void checkParticles(const char* op, const char* argument, const Tensor& x, bool unbiased) {
  const int64_t least = unbiased ? 2 : 1, particles = x.shape()[1];
  if (particles < least || particles > kMaxMmdParticles) {
    fail(ErrorCode::Shape, op, argument, " must have ", least, " to ", kMaxMmdParticles, " particles a group",
         unbiased ? " (unbiased)" : "", ", got shape ", x.shape());
  }
}

MmdOptions checkMmd(const char* op, const MmdOperands& in, const std::string& kernel,
                    const std::vector<double>& bandwidths, double eps, bool unbiased) {
  const auto& [x, y, weight, lossWeight] = in;
  checkFloating(op, "x", x);
  checkRank(op, "x", x, 3);
  checkLike(op, "y", y, x);
  checkRank(op, "y", y, 3);
  if (y.shape()[0] != x.shape()[0] || y.shape()[2] != x.shape()[2]) {
    fail(ErrorCode::Shape, op, "y must have the groups and features of x, ", x.shape(), ", got ", y.shape());
  }
  if (x.shape()[2] < 1) fail(ErrorCode::Shape, op, "x must have at least one feature, got shape ", x.shape());
  checkParticles(op, "x", x, unbiased);
  checkParticles(op, "y", y, unbiased);
  const auto perGroup = [&](const char* argument, const Tensor& t) {
    if (!t) return;
    checkDevice(op, argument, t, x.device());
    checkDType(op, argument, t, statisticsDType(x.dtype()));
    checkShape(op, argument, t, {x.shape()[0]});
  };
  perGroup("weight", weight);
  perGroup("lossWeight", lossWeight);
  MmdOptions options{kernelByName(op, kernel), bandwidths, eps, unbiased};
  if (options.kernel == MmdKernel::Energy && !bandwidths.empty()) {
    fail(ErrorCode::Argument, op, "bandwidths must be absent for kernel 'energy', which has none, got ",
         bandwidths.size());
  }
  for (double bandwidth : bandwidths) checkPositive(op, "bandwidths", bandwidth);
  if (bandwidths.empty()) options.bandwidths = {1.0};
  checkPositive(op, "eps", eps);
  return options;
}

Tensor values(const Tensor& x) { return Tensor::empty(x.device(), {x.shape()[0]}, statisticsDType(x.dtype())); }

}  // namespace

Tensor mmd(const Tensor& x, const Tensor& y, const OptionalTensor& weight, const OptionalTensor& lossWeight,
           const std::string& kernel, const std::vector<double>& bandwidths, double eps, bool unbiased) {
  const MmdOperands in{x, y, weight, lossWeight};
  const MmdOptions options = checkMmd("mmd", in, kernel, bandwidths, eps, unbiased);
  const Tensor value = values(x);
  launch("mmd", x.device(), {value}, {x, y, weight, lossWeight},
         [=](Backend& backend) { backend.mmd(options, value, {}, in, {}, {}); });
  return value;
}

std::tuple<Tensor, Tensor> mmdJvp(const Tensor& x, const Tensor& y, const OptionalTensor& weight,
                                  const OptionalTensor& lossWeight, const OptionalTensor& tx, const OptionalTensor& ty,
                                  const std::string& kernel, const std::vector<double>& bandwidths, double eps,
                                  bool unbiased) {
  const MmdOperands in{x, y, weight, lossWeight};
  const MmdOptions options = checkMmd("mmdJvp", in, kernel, bandwidths, eps, unbiased);
  checkSame("mmdJvp", "tx", tx, x);
  checkSame("mmdJvp", "ty", ty, y);
  const Tensor value = values(x), tangent = values(x);
  launch("mmdJvp", x.device(), {value, tangent}, {x, y, weight, lossWeight, tx, ty},
         [=](Backend& backend) { backend.mmd(options, value, tangent, in, tx, ty); });
  return {value, tangent};
}

std::tuple<Tensor, Tensor, Tensor> mmdVjp(const Tensor& x, const Tensor& y, const OptionalTensor& weight,
                                          const OptionalTensor& lossWeight, const OptionalTensor& g,
                                          const std::string& kernel, const std::vector<double>& bandwidths, double eps,
                                          bool unbiased, bool needX, bool needY) {
  const MmdOperands in{x, y, weight, lossWeight};
  const MmdOptions options = checkMmd("mmdVjp", in, kernel, bandwidths, eps, unbiased);
  const Tensor value = values(x);
  checkSame("mmdVjp", "g", g, value);
  const Tensor gx = needX ? Tensor::emptyLike(x) : Tensor(), gy = needY ? Tensor::emptyLike(y) : Tensor();
  launch("mmdVjp", x.device(), {value, gx, gy}, {x, y, weight, lossWeight, g},
         [=](Backend& backend) { backend.mmdVjp(options, value, gx, gy, in, g); });
  return {value, gx, gy};
}

}  // namespace flowmap::ops
