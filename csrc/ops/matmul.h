// Contracts of matrix products. Letters: m, n, k sizes of a product; `in`, `out` features of a linear layer; ... any
// leading axes.
#pragma once

#include <tuple>

#include "core/optional_tensor.h"

namespace flowmap::ops {

// a [..., m, k] (or [..., k, m] transposed), b [..., k, n] (or [..., n, k]) -> [..., m, n]; leading axes broadcast
Tensor matmul(const Tensor& a, const Tensor& b, bool transposeA, bool transposeB);

// x [..., in], weight [out, in], bias [out] or absent -> x weightᵀ + bias [..., out]
Tensor linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias);

// The same and its tangent, -> y, ty [..., out]. Absent tangents are zero; all of them absent is refused.
std::tuple<Tensor, Tensor> linearJvp(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                     const OptionalTensor& tx, const OptionalTensor& tweight,
                                     const OptionalTensor& tbias);

// Pulls the cotangents g of y and h of ty [..., out] back to x, weight, bias, tx, tweight, tbias, in this order; absent
// where not needed. An absent g or h is zero; both absent is refused.
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> linearJvpVjp(
    const Tensor& x, const Tensor& weight, const OptionalTensor& tx, const OptionalTensor& tweight,
    const OptionalTensor& g, const OptionalTensor& h, bool needX, bool needWeight, bool needBias, bool needTx,
    bool needTweight, bool needTbias);

// Whether products of float32 on the device may round their factors to TF32, from the next one on.
void allowTf32(Device& device, bool allowed);

}  // namespace flowmap::ops
