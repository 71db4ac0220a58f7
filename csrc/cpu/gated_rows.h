// Rows of the gated residual, x + gate z: value, tangent and the backward of both.
#pragma once

#include <cstdint>

namespace flowmap::cpu {

// y = x + gate z; ty = tx + tgate z + gate tz, unless ty is null.
template <class C>
struct GatedRow {
  int64_t dim;
  const C *x, *gate, *z, *tx, *tgate, *tz;
};
void gatedForwardRow(const GatedRow<float>& row, float* y, float* ty);
void gatedForwardRow(const GatedRow<double>& row, double* y, double* ty);

// gz = g gate + h tgate, gtz = h gate, unless null; gateSum += g z + h tz, tgateSum += h z, unless null.
template <class C>
struct GatedRowGradients {
  const C *g, *h;
  C *gz, *gtz, *gateSum, *tgateSum;
};
void gatedBackwardRow(const GatedRow<float>& row, const GatedRowGradients<float>& gradients);
void gatedBackwardRow(const GatedRow<double>& row, const GatedRowGradients<double>& gradients);

}  // namespace flowmap::cpu
