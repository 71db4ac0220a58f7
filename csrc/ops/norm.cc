#include "ops/norm.h"

#include "core/check.h"
#include "core/launch.h"
#include "core/norm_args.h"

namespace flowmap::ops {
namespace {

NormLayout layoutOf(const Tensor& x, int64_t rowsPerGroup, double gainOffset, double eps) {
  NormLayout layout;
  layout.dim = x.shape()[-1];
  layout.rows = x.shape().product(0, x.rank() - 1);
  layout.rowsPerGroup = std::max<int64_t>(1, std::min(rowsPerGroup, layout.rows));
  layout.rowsPerSegment = std::max<int64_t>(1, layout.rows);
  layout.gainOffset = gainOffset;
  layout.eps = eps;
  return layout;
}

Tensor likeIf(bool need, const Tensor& x) { return need && x ? Tensor::emptyLike(x) : Tensor(); }

void checkCotangents(const char* op, const OptionalTensor& g, const OptionalTensor& h, const Tensor& x) {
  checkSame(op, "g", g, x);
  checkSame(op, "h", h, x);
  if (!g && !h) fail(ErrorCode::Argument, op, "at least one of g and h must be given");
}

void checkRmsNorm(const char* op, const Tensor& x, const OptionalTensor& weight, const OptionalTensor& tx,
                  const OptionalTensor& tweight, double eps) {
  checkFloating(op, "x", x);
  checkMinRank(op, "x", x, 1);
  checkPositive(op, "eps", eps);
  const Shape features{x.shape()[-1]};
  if (weight) {
    checkLike(op, "weight", weight, x);
    checkShape(op, "weight", weight, features);
  }
  checkSame(op, "tx", tx, x);
  if (tweight) {
    if (!weight) fail(ErrorCode::Argument, op, "tweight must be absent where weight is");
    checkSame(op, "tweight", tweight, weight);
  }
}

void checkModulation(const char* op, const char* argument, const OptionalTensor& t, const Tensor& x) {
  if (!t) return;
  checkLike(op, argument, t, x);
  checkShape(op, argument, t, {x.shape()[0], x.shape()[2]});
}

void checkModulated(const char* op, const Tensor& x, const OptionalTensor& tx, double eps) {
  checkFloating(op, "x", x);
  checkRank(op, "x", x, 3);
  checkPositive(op, "eps", eps);
  checkSame(op, "tx", tx, x);
}

// launch() with a list of inputs of which some may be absent
template <class Run>
void launchNorm(const char* op, const Tensor& x, std::vector<Tensor> outputs, std::vector<Tensor> inputs, Run run) {
  inputs.push_back(x);
  launch(op, x.device(), std::move(outputs), std::move(inputs), std::move(run));
}

}  // namespace

Tensor rmsNorm(const Tensor& x, const OptionalTensor& weight, double eps) {
  const char* op = "rmsNorm";
  checkRmsNorm(op, x, weight, {}, {}, eps);
  const Tensor y = Tensor::emptyLike(x);
  const NormLayout layout = layoutOf(x, INT64_MAX, 0, eps);
  launchNorm(op, x, {y}, {weight}, [=](Backend& backend) { backend.norm(layout, y, {}, {x, weight, {}, {}, {}, {}}); });
  return y;
}

std::tuple<Tensor, Tensor> rmsNormJvp(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& tx,
                                      const OptionalTensor& tweight, double eps) {
  const char* op = "rmsNormJvp";
  checkRmsNorm(op, x, weight, tx, tweight, eps);
  const Tensor y = Tensor::emptyLike(x), ty = Tensor::emptyLike(x);
  const NormLayout layout = layoutOf(x, INT64_MAX, 0, eps);
  launchNorm(op, x, {y, ty}, {weight, tx, tweight}, [=](Backend& backend) {
    backend.norm(layout, y, ty, {x, weight, {}, tx, tweight, {}});
  });
  return {y, ty};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> rmsNormJvpVjp(const Tensor& x, const OptionalTensor& weight,
                                                         const OptionalTensor& tx, const OptionalTensor& tweight,
                                                         const OptionalTensor& g, const OptionalTensor& h, double eps,
                                                         bool needX, bool needWeight, bool needTx, bool needTweight) {
  const char* op = "rmsNormJvpVjp";
  checkRmsNorm(op, x, weight, tx, tweight, eps);
  checkCotangents(op, g, h, x);
  NormGradients out;
  out.gx = likeIf(needX, x);
  out.ggain = likeIf(needWeight, weight);
  out.gtx = likeIf(needTx, x);
  out.gtgain = likeIf(needTweight, weight);
  const NormLayout layout = layoutOf(x, INT64_MAX, 0, eps);
  launchNorm(op, x, {out.gx, out.ggain, out.gtx, out.gtgain}, {weight, tx, tweight, g, h}, [=](Backend& backend) {
    backend.normVjp(layout, out, {x, weight, {}, tx, tweight, {}}, g, h);
  });
  return {out.gx, out.ggain, out.gtx, out.gtgain};
}

Tensor rmsNormModulate(const Tensor& x, const Tensor& shift, const Tensor& scale, double eps) {
  const char* op = "rmsNormModulate";
  checkModulated(op, x, {}, eps);
  checkModulation(op, "shift", shift, x);
  checkModulation(op, "scale", scale, x);
  const Tensor y = Tensor::emptyLike(x);
  const NormLayout layout = layoutOf(x, x.shape()[1], 1, eps);
  launchNorm(op, x, {y}, {shift, scale}, [=](Backend& backend) {
    backend.norm(layout, y, {}, {x, scale, shift, {}, {}, {}});
  });
  return y;
}

std::tuple<Tensor, Tensor> rmsNormModulateJvp(const Tensor& x, const Tensor& shift, const Tensor& scale,
                                              const OptionalTensor& tx, const OptionalTensor& tshift,
                                              const OptionalTensor& tscale, double eps) {
  const char* op = "rmsNormModulateJvp";
  checkModulated(op, x, tx, eps);
  checkModulation(op, "shift", shift, x);
  checkModulation(op, "scale", scale, x);
  checkModulation(op, "tshift", tshift, x);
  checkModulation(op, "tscale", tscale, x);
  const Tensor y = Tensor::emptyLike(x), ty = Tensor::emptyLike(x);
  const NormLayout layout = layoutOf(x, x.shape()[1], 1, eps);
  launchNorm(op, x, {y, ty}, {shift, scale, tx, tshift, tscale}, [=](Backend& backend) {
    backend.norm(layout, y, ty, {x, scale, shift, tx, tscale, tshift});
  });
  return {y, ty};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> rmsNormModulateJvpVjp(
    const Tensor& x, const Tensor& scale, const OptionalTensor& tx, const OptionalTensor& tscale,
    const OptionalTensor& g, const OptionalTensor& h, double eps, bool needX, bool needShift, bool needScale,
    bool needTx, bool needTshift, bool needTscale) {
  const char* op = "rmsNormModulateJvpVjp";
  checkModulated(op, x, tx, eps);
  checkModulation(op, "scale", scale, x);
  checkModulation(op, "tscale", tscale, x);
  checkCotangents(op, g, h, x);
  NormGradients out;
  out.gx = likeIf(needX, x);
  out.gshift = likeIf(needShift, scale);
  out.ggain = likeIf(needScale, scale);
  out.gtx = likeIf(needTx, x);
  out.gtshift = likeIf(needTshift, scale);
  out.gtgain = likeIf(needTscale, scale);
  const NormLayout layout = layoutOf(x, x.shape()[1], 1, eps);
  launchNorm(op, x, {out.gx, out.gshift, out.ggain, out.gtx, out.gtshift, out.gtgain}, {scale, tx, tscale, g, h},
             [=](Backend& backend) {
               backend.normVjp(layout, out, {x, scale, {}, tx, tscale, {}}, g, h);
             });
  return {out.gx, out.gshift, out.ggain, out.gtx, out.gtshift, out.gtgain};
}

Tensor gatedResidual(const Tensor& x, const Tensor& gate, const Tensor& z) {
  const char* op = "gatedResidual";
  checkFloating(op, "x", x);
  checkRank(op, "x", x, 3);
  checkModulation(op, "gate", gate, x);
  checkSame(op, "z", z, x);
  const Tensor y = Tensor::emptyLike(x);
  launchNorm(op, x, {y}, {gate, z}, [=](Backend& backend) { backend.gatedResidual(y, {}, x, gate, z, {}, {}, {}); });
  return y;
}

std::tuple<Tensor, Tensor> gatedResidualJvp(const Tensor& x, const Tensor& gate, const Tensor& z,
                                            const OptionalTensor& tx, const OptionalTensor& tgate,
                                            const OptionalTensor& tz) {
  const char* op = "gatedResidualJvp";
  checkFloating(op, "x", x);
  checkRank(op, "x", x, 3);
  checkModulation(op, "gate", gate, x);
  checkSame(op, "z", z, x);
  checkSame(op, "tx", tx, x);
  checkModulation(op, "tgate", tgate, x);
  checkSame(op, "tz", tz, x);
  const Tensor y = Tensor::emptyLike(x), ty = Tensor::emptyLike(x);
  launchNorm(op, x, {y, ty}, {gate, z, tx, tgate, tz},
             [=](Backend& backend) { backend.gatedResidual(y, ty, x, gate, z, tx, tgate, tz); });
  return {y, ty};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gatedResidualJvpVjp(const Tensor& gate, const Tensor& z,
                                                               const OptionalTensor& tgate, const OptionalTensor& tz,
                                                               const OptionalTensor& g, const OptionalTensor& h,
                                                               bool needGate, bool needZ, bool needTgate, bool needTz) {
  const char* op = "gatedResidualJvpVjp";
  checkFloating(op, "z", z);
  checkRank(op, "z", z, 3);
  checkModulation(op, "gate", gate, z);
  checkModulation(op, "tgate", tgate, z);
  checkSame(op, "tz", tz, z);
  checkCotangents(op, g, h, z);
  const Tensor ggate = likeIf(needGate, gate), gz = likeIf(needZ, z), gtgate = likeIf(needTgate, gate),
               gtz = likeIf(needTz, z);
  launchNorm(op, z, {ggate, gz, gtgate, gtz}, {gate, tgate, tz, g, h},
             [=](Backend& backend) { backend.gatedResidualVjp(ggate, gz, gtgate, gtz, gate, z, tgate, tz, g, h); });
  return {ggate, gz, gtgate, gtz};
}

Tensor softmax(const Tensor& x) {
  checkFloating("softmax", "x", x);
  checkMinRank("softmax", "x", x, 1);
  const Tensor y = Tensor::emptyLike(x);
  launchNorm("softmax", x, {y}, {}, [=](Backend& backend) { backend.softmax(y, x); });
  return y;
}

}  // namespace flowmap::ops
