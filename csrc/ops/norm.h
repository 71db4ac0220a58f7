// Contracts of RMS and layer normalisation. Letters: ... leading axes, D features; B samples, N tokens; S tokens, H
// heads, d features of a head. Absent tangents and cotangents are zero. `…JvpVjp` pulls cotangents g of the values and
// h of the tangents back; results that are not needed are absent.
#pragma once

#include <tuple>
#include <vector>

#include "core/optional_tensor.h"

namespace flowmap::ops {

// x [..., D], weight [D] or absent -> x (mean x² + eps)^-½ ∘ weight [..., D]
Tensor rmsNorm(const Tensor& x, const OptionalTensor& weight, double eps);
std::tuple<Tensor, Tensor> rmsNormJvp(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& tx,
                                      const OptionalTensor& tweight, double eps);
// -> gx, gweight, gtx, gtweight
std::tuple<Tensor, Tensor, Tensor, Tensor> rmsNormJvpVjp(const Tensor& x, const OptionalTensor& weight,
                                                         const OptionalTensor& tx, const OptionalTensor& tweight,
                                                         const OptionalTensor& g, const OptionalTensor& h, double eps,
                                                         bool needX, bool needWeight, bool needTx, bool needTweight);

// x [B, N, D], shift [B, D], scale [B, D] -> x̂ ∘ (1 + scale) + shift [B, N, D], x̂ the weightless rmsNorm of x
Tensor rmsNormModulate(const Tensor& x, const Tensor& shift, const Tensor& scale, double eps);
std::tuple<Tensor, Tensor> rmsNormModulateJvp(const Tensor& x, const Tensor& shift, const Tensor& scale,
                                              const OptionalTensor& tx, const OptionalTensor& tshift,
                                              const OptionalTensor& tscale, double eps);
// -> gx, gshift, gscale, gtx, gtshift, gtscale
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> rmsNormModulateJvpVjp(
    const Tensor& x, const Tensor& scale, const OptionalTensor& tx, const OptionalTensor& tscale,
    const OptionalTensor& g, const OptionalTensor& h, double eps, bool needX, bool needShift, bool needScale,
    bool needTx, bool needTshift, bool needTscale);

// x [..., D], weight [D] or absent, bias [D] or absent -> (x − mean x) (var x + eps)^-½ ∘ weight + bias [..., D]
Tensor layerNorm(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias, double eps);
std::tuple<Tensor, Tensor> layerNormJvp(const Tensor& x, const OptionalTensor& weight, const OptionalTensor& bias,
                                        const OptionalTensor& tx, const OptionalTensor& tweight,
                                        const OptionalTensor& tbias, double eps);
// -> gx, gweight, gbias, gtx, gtweight, gtbias
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> layerNormJvpVjp(
    const Tensor& x, const OptionalTensor& weight, const OptionalTensor& tx, const OptionalTensor& tweight,
    const OptionalTensor& g, const OptionalTensor& h, double eps, bool needX, bool needWeight, bool needBias,
    bool needTx, bool needTweight, bool needTbias);

// As rmsNormModulate, with the layerNorm of x for x̂.
Tensor layerNormModulate(const Tensor& x, const Tensor& shift, const Tensor& scale, double eps);
std::tuple<Tensor, Tensor> layerNormModulateJvp(const Tensor& x, const Tensor& shift, const Tensor& scale,
                                                const OptionalTensor& tx, const OptionalTensor& tshift,
                                                const OptionalTensor& tscale, double eps);
// -> gx, gshift, gscale, gtx, gtshift, gtscale
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> layerNormModulateJvpVjp(
    const Tensor& x, const Tensor& scale, const OptionalTensor& tx, const OptionalTensor& tscale,
    const OptionalTensor& g, const OptionalTensor& h, double eps, bool needX, bool needShift, bool needScale,
    bool needTx, bool needTshift, bool needTscale);

// x [B, N, D], gate [B, D], z [B, N, D] -> x + gate ∘ z [B, N, D]
Tensor gatedResidual(const Tensor& x, const Tensor& gate, const Tensor& z);
std::tuple<Tensor, Tensor> gatedResidualJvp(const Tensor& x, const Tensor& gate, const Tensor& z,
                                            const OptionalTensor& tx, const OptionalTensor& tgate,
                                            const OptionalTensor& tz);
// -> ggate, gz, gtgate, gtz (those of x are g and h themselves)
std::tuple<Tensor, Tensor, Tensor, Tensor> gatedResidualJvpVjp(const Tensor& gate, const Tensor& z,
                                                               const OptionalTensor& tgate, const OptionalTensor& tz,
                                                               const OptionalTensor& g, const OptionalTensor& h,
                                                               bool needGate, bool needZ, bool needTgate, bool needTz);

// qkv [B, S, 3 H d] -> q, k, v [B, S, H, d]; q and k RMS-normalised per head and multiplied by their weights [d]
// (absent: ones), or all three split only, where `normalize` is false.
std::tuple<Tensor, Tensor, Tensor> splitQkv(const Tensor& qkv, const OptionalTensor& qWeight,
                                            const OptionalTensor& kWeight, int64_t heads, bool normalize, double eps);
// -> q, k, v, tq, tk, tv; a tangent that is zero throughout is absent
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> splitQkvJvp(
    const Tensor& qkv, const OptionalTensor& qWeight, const OptionalTensor& kWeight, const OptionalTensor& tqkv,
    const OptionalTensor& tqWeight, const OptionalTensor& tkWeight, int64_t heads, bool normalize, double eps);
// cotangents: of q, k, v, tq, tk, tv -> gqkv, gqWeight, gkWeight, gtqkv, gtqWeight, gtkWeight; needs in this order
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> splitQkvJvpVjp(
    const Tensor& qkv, const OptionalTensor& qWeight, const OptionalTensor& kWeight, const OptionalTensor& tqkv,
    const OptionalTensor& tqWeight, const OptionalTensor& tkWeight, const std::vector<OptionalTensor>& cotangents,
    int64_t heads, bool normalize, double eps, const std::vector<int64_t>& needs);

// x [..., D] -> softmax over the last axis [..., D]
Tensor softmax(const Tensor& x);

}  // namespace flowmap::ops
