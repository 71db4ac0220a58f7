#include "ops/norm.h"

#include "core/check.h"
#include "core/launch.h"
#include "core/norm_args.h"

namespace flowmap::ops {
namespace {

NormLayout layoutOf(const Tensor& x, int64_t rowsPerGroup, double gainOffset, double eps, bool centered) {
  NormLayout layout = normLayoutOf(x, eps, rowsPerGroup);
  layout.centered = centered;
  layout.gainOffset = gainOffset;
  return layout;
}

Tensor likeIf(bool need, const Tensor& x) { return need && x ? Tensor::emptyLike(x) : Tensor(); }

void checkCotangents(const char* op, const OptionalTensor& g, const OptionalTensor& h, const Tensor& x) {
  checkSame(op, "g", g, x);
  checkSame(op, "h", h, x);
  if (!g && !h) fail(ErrorCode::Argument, op, "at least one of g and h must be given");
}

// A parameter [D] of a row's affine map, and its tangent.
void checkFeatures(const char* op, const char* argument, const OptionalTensor& p, const char* tangent,
                   const OptionalTensor& tp, const Tensor& x) {
  if (p) {
    checkLike(op, argument, p, x);
    checkShape(op, argument, p, {x.shape()[-1]});
    checkSame(op, tangent, tp, p);
  } else if (tp) {
    fail(ErrorCode::Argument, op, tangent, " must be absent where ", argument, " is");
  }
}

void checkAffineNorm(const char* op, const Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
                     const OptionalTensor& tx, const OptionalTensor& tweight, const OptionalTensor& tbias, double eps) {
  checkFloating(op, "x", x);
  checkMinRank(op, "x", x, 1);
  checkPositive(op, "eps", eps);
  checkFeatures(op, "weight", weight, "tweight", tweight, x);
  checkFeatures(op, "bias", bias, "tbias", tbias, x);
  checkSame(op, "tx", tx, x);
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

// launch() where x and more are the inputs
template <class Run>
void launchNorm(const char* op, const Tensor& x, StorageList outputs, StorageList inputs, Run run) {
  inputs.add(x);
  launch(op, x.device(), std::move(outputs), std::move(inputs), std::move(run));
}

Tensor affineNorm(const char* op, bool centered, const Tensor& x, const OptionalTensor& weight,
                  const OptionalTensor& bias, double eps) {
  checkAffineNorm(op, x, weight, bias, {}, {}, {}, eps);
  const Tensor y = Tensor::emptyLike(x);
  const NormLayout layout = layoutOf(x, INT64_MAX, 0, eps, centered);
  launchNorm(op, x, {y}, {weight, bias}, [=](Backend& backend) {
    backend.norm(layout, y, {}, {x, weight, bias, {}, {}, {}});
  });
  return y;
}

std::tuple<Tensor, Tensor> affineNormJvp(const char* op, bool centered, const Tensor& x, const OptionalTensor& weight,
                                         const OptionalTensor& bias, const OptionalTensor& tx,
                                         const OptionalTensor& tweight, const OptionalTensor& tbias, double eps) {
  checkAffineNorm(op, x, weight, bias, tx, tweight, tbias, eps);
  const Tensor y = Tensor::emptyLike(x), ty = Tensor::emptyLike(x);
  const NormLayout layout = layoutOf(x, INT64_MAX, 0, eps, centered);
  launchNorm(op, x, {y, ty}, {weight, bias, tx, tweight, tbias}, [=](Backend& backend) {
    backend.norm(layout, y, ty, {x, weight, bias, tx, tweight, tbias});
  });
  return {y, ty};
}

// The gradient of a bias does not depend on its value: `need…` alone says whether it is wanted.
NormGradients affineNormJvpVjp(const char* op, bool centered, const Tensor& x, const OptionalTensor& weight,
                               const OptionalTensor& tx, const OptionalTensor& tweight, const OptionalTensor& g,
                               const OptionalTensor& h, double eps, bool needX, bool needWeight, bool needBias,
                               bool needTx, bool needTweight, bool needTbias) {
  checkAffineNorm(op, x, weight, {}, tx, tweight, {}, eps);
  checkCotangents(op, g, h, x);
  const auto features = [&](bool need) {
    return need ? Tensor::empty(x.device(), {x.shape()[-1]}, x.dtype()) : Tensor();
  };
  NormGradients out;
  out.gx = likeIf(needX, x);
  out.ggain = likeIf(needWeight, weight);
  out.gshift = features(needBias);
  out.gtx = likeIf(needTx, x);
  out.gtgain = likeIf(needTweight, weight);
  out.gtshift = features(needTbias);
  const NormLayout layout = layoutOf(x, INT64_MAX, 0, eps, centered);
  launchNorm(op, x, {out.gx, out.ggain, out.gshift, out.gtx, out.gtgain, out.gtshift}, {weight, tx, tweight, g, h},
             [=](Backend& backend) {
               backend.normVjp(layout, out, {x, weight, {}, tx, tweight, {}}, g, h);
             });
  return out;
}

Tensor modulatedNorm(const char* op, bool centered, const Tensor& x, const Tensor& shift, const Tensor& scale,
                     double eps) {
  checkModulated(op, x, {}, eps);
  checkModulation(op, "shift", shift, x);
  checkModulation(op, "scale", scale, x);
  const Tensor y = Tensor::emptyLike(x);
  const NormLayout layout = layoutOf(x, x.shape()[1], 1, eps, centered);
  launchNorm(op, x, {y}, {shift, scale}, [=](Backend& backend) {
    backend.norm(layout, y, {}, {x, scale, shift, {}, {}, {}});
  });
  return y;
}

std::tuple<Tensor, Tensor> modulatedNormJvp(const char* op, bool centered, const Tensor& x, const Tensor& shift,
                                            const Tensor& scale, const OptionalTensor& tx, const OptionalTensor& tshift,
                                            const OptionalTensor& tscale, double eps) {
  checkModulated(op, x, tx, eps);
  checkModulation(op, "shift", shift, x);
  checkModulation(op, "scale", scale, x);
  checkModulation(op, "tshift", tshift, x);
  checkModulation(op, "tscale", tscale, x);
  const Tensor y = Tensor::emptyLike(x), ty = Tensor::emptyLike(x);
  const NormLayout layout = layoutOf(x, x.shape()[1], 1, eps, centered);
  launchNorm(op, x, {y, ty}, {shift, scale, tx, tshift, tscale}, [=](Backend& backend) {
    backend.norm(layout, y, ty, {x, scale, shift, tx, tscale, tshift});
  });
  return {y, ty};
}

NormGradients modulatedNormJvpVjp(const char* op, bool centered, const Tensor& x, const Tensor& scale,
                                  const OptionalTensor& tx, const OptionalTensor& tscale, const OptionalTensor& g,
                                  const OptionalTensor& h, double eps, bool needX, bool needShift, bool needScale,
                                  bool needTx, bool needTshift, bool needTscale) {
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
  const NormLayout layout = layoutOf(x, x.shape()[1], 1, eps, centered);
  launchNorm(op, x, {out.gx, out.gshift, out.ggain, out.gtx, out.gtshift, out.gtgain}, {scale, tx, tscale, g, h},
             [=](Backend& backend) {
               backend.normVjp(layout, out, {x, scale, {}, tx, tscale, {}}, g, h);
             });
  return out;
}

}  // namespace

Tensor rmsNorm(const Tensor& x, const OptionalTensor& weight, double eps) {
  return affineNorm("rmsNorm", false, x, weight, {}, eps);
}

std::tuple<Tensor, Tensor> rmsNormJvp(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& tx,
                                      const OptionalTensor& tweight, double eps) {
  return affineNormJvp("rmsNormJvp", false, x, weight, {}, tx, tweight, {}, eps);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> rmsNormJvpVjp(const Tensor& x, const OptionalTensor& weight,
                                                         const OptionalTensor& tx, const OptionalTensor& tweight,
                                                         const OptionalTensor& g, const OptionalTensor& h, double eps,
                                                         bool needX, bool needWeight, bool needTx, bool needTweight) {
  const NormGradients out = affineNormJvpVjp("rmsNormJvpVjp", false, x, weight, tx, tweight, g, h, eps, needX,
                                             needWeight, false, needTx, needTweight, false);
  return {out.gx, out.ggain, out.gtx, out.gtgain};
}

Tensor rmsNormModulate(const Tensor& x, const Tensor& shift, const Tensor& scale, double eps) {
  return modulatedNorm("rmsNormModulate", false, x, shift, scale, eps);
}

std::tuple<Tensor, Tensor> rmsNormModulateJvp(const Tensor& x, const Tensor& shift, const Tensor& scale,
                                              const OptionalTensor& tx, const OptionalTensor& tshift,
                                              const OptionalTensor& tscale, double eps) {
  return modulatedNormJvp("rmsNormModulateJvp", false, x, shift, scale, tx, tshift, tscale, eps);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> rmsNormModulateJvpVjp(
    const Tensor& x, const Tensor& scale, const OptionalTensor& tx, const OptionalTensor& tscale,
    const OptionalTensor& g, const OptionalTensor& h, double eps, bool needX, bool needShift, bool needScale,
    bool needTx, bool needTshift, bool needTscale) {
  const NormGradients out = modulatedNormJvpVjp("rmsNormModulateJvpVjp", false, x, scale, tx, tscale, g, h, eps, needX,
                                                needShift, needScale, needTx, needTshift, needTscale);
  return {out.gx, out.gshift, out.ggain, out.gtx, out.gtshift, out.gtgain};
}

Tensor layerNorm(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias, double eps) {
  return affineNorm("layerNorm", true, x, weight, bias, eps);
}

std::tuple<Tensor, Tensor> layerNormJvp(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
                                        const OptionalTensor& tx, const OptionalTensor& tweight,
                                        const OptionalTensor& tbias, double eps) {
  return affineNormJvp("layerNormJvp", true, x, weight, bias, tx, tweight, tbias, eps);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> layerNormJvpVjp(
    const Tensor& x, const OptionalTensor& weight, const OptionalTensor& tx, const OptionalTensor& tweight,
    const OptionalTensor& g, const OptionalTensor& h, double eps, bool needX, bool needWeight, bool needBias,
    bool needTx, bool needTweight, bool needTbias) {
  const NormGradients out = affineNormJvpVjp("layerNormJvpVjp", true, x, weight, tx, tweight, g, h, eps, needX,
                                             needWeight, needBias, needTx, needTweight, needTbias);
  return {out.gx, out.ggain, out.gshift, out.gtx, out.gtgain, out.gtshift};
}

Tensor layerNormModulate(const Tensor& x, const Tensor& shift, const Tensor& scale, double eps) {
  return modulatedNorm("layerNormModulate", true, x, shift, scale, eps);
}

std::tuple<Tensor, Tensor> layerNormModulateJvp(const Tensor& x, const Tensor& shift, const Tensor& scale,
                                                const OptionalTensor& tx, const OptionalTensor& tshift,
                                                const OptionalTensor& tscale, double eps) {
  return modulatedNormJvp("layerNormModulateJvp", true, x, shift, scale, tx, tshift, tscale, eps);
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> layerNormModulateJvpVjp(
    const Tensor& x, const Tensor& scale, const OptionalTensor& tx, const OptionalTensor& tscale,
    const OptionalTensor& g, const OptionalTensor& h, double eps, bool needX, bool needShift, bool needScale,
    bool needTx, bool needTshift, bool needTscale) {
  const NormGradients out = modulatedNormJvpVjp("layerNormModulateJvpVjp", true, x, scale, tx, tscale, g, h, eps, needX,
                                                needShift, needScale, needTx, needTshift, needTscale);
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
