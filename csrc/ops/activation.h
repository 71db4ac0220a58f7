// Contracts of activations, elementwise. Absent cotangents are zero; results that are not needed are absent.
#pragma once

#include <tuple>

#include "core/elementwise_ops.h"
#include "core/optional_tensor.h"

namespace flowmap::ops {

Tensor activation(const char* op, ActivationOp kind, const Tensor& x);
std::tuple<Tensor, Tensor> activationJvp(const char* op, ActivationOp kind, const Tensor& x, const Tensor& tx);
// -> gx, gtx
std::tuple<Tensor, Tensor> activationJvpVjp(const char* op, ActivationOp kind, const Tensor& x,
                                            const OptionalTensor& tx, const OptionalTensor& g, const OptionalTensor& h,
                                            bool needX, bool needTx);

}  // namespace flowmap::ops
