// Activations over contiguous runs. With f the activation: y = f(x), ty = f'(x) tx; gx = f'(x) g + f''(x) tx h, gtx =
// f'(x) h.
#pragma once

#include <cstdint>

#include "core/elementwise_ops.h"

namespace flowmap::cpu {

// ty may be null; then tx is not read.
void activationRun(ActivationOp op, int64_t n, const float* x, const float* tx, float* y, float* ty);
void activationRun(ActivationOp op, int64_t n, const double* x, const double* tx, double* y, double* ty);

// g, h and tx may be null: zero. gx and gtx may be null: not wanted.
template <class C>
struct ActivationGradients {
  const C *x, *tx, *g, *h;
  C *gx, *gtx;
};
void activationVjpRun(ActivationOp op, int64_t n, const ActivationGradients<float>& run);
void activationVjpRun(ActivationOp op, int64_t n, const ActivationGradients<double>& run);

}  // namespace flowmap::cpu
