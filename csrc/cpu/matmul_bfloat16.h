// Matrix products and linear layers of bfloat16 for machines that multiply it as it is: half the traffic of float32 and
// twice its rate. Sums are float32 and are rounded once. What they take and give is what the functions of CpuBackend
// do.
#pragma once

#include "core/tensor.h"

namespace flowmap::cpu {

void matmulBFloat16(const Tensor& out, const Tensor& a, const Tensor& b, bool transposeA, bool transposeB);

void linearJvpBFloat16(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& weight, const Tensor& bias,
                       const Tensor& tx, const Tensor& tweight, const Tensor& tbias);

void linearJvpVjpBFloat16(const Tensor& gx, const Tensor& gweight, const Tensor& gbias, const Tensor& gtx,
                          const Tensor& gtweight, const Tensor& gtbias, const Tensor& x, const Tensor& weight,
                          const Tensor& tx, const Tensor& tweight, const Tensor& g, const Tensor& h);

}  // namespace flowmap::cpu
