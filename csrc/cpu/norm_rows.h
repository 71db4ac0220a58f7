// RMS normalisation of rows followed by an affine map per group of rows: y = x̂ ∘ (offset + gain) + shift, its tangent
// and the backward pass of both. A weight is a gain of one group with offset 0; adaLN modulation is a gain per sample
// with offset 1. Maths: x̂ = r x with r = (mean x² + eps)^-½, c = mean(x̂ tx), u = r (tx − x̂ c) the tangent of x̂.
#pragma once

#include <array>
#include <cstdint>

namespace flowmap::cpu {

// out ← x − mean x, of one row; they may be the same row. The mean of what is left is taken off again, so that a large
// common offset of x costs no digits of the result.
void centerRow(int64_t dim, const float* x, float* out);
void centerRow(int64_t dim, const double* x, double* out);

// One row each; all pointers but `next` valid, rows of zeros stand for what is absent.
template <class C>
struct NormRow {
  int64_t dim;
  C eps, offset;
  const C *x, *tx, *gain, *tgain, *shift, *tshift;
  bool scaled = true, modulated = true;  // has a gain; has a gain and a part that is added
  std::array<const char*, 4> next{};     // where rows to come are in memory
  int64_t nextItem = 0;                  // bytes of an element there
};

// y = x̂ (offset + gain) + shift; ty = u (offset + gain) + x̂ tgain + tshift, unless ty is null.
void normForwardRow(const NormRow<float>& row, float* y, float* ty);
void normForwardRow(const NormRow<double>& row, double* y, double* ty);

// Cotangents g of y and h of ty. gx and gtx are written unless null; the sums are added to unless null.
template <class C>
struct NormRowGradients {
  const C *g, *h;
  C *gx, *gtx, *gainSum, *tgainSum, *shiftSum, *tshiftSum;
};
void normBackwardRow(const NormRow<float>& row, const NormRowGradients<float>& gradients);
void normBackwardRow(const NormRow<double>& row, const NormRowGradients<double>& gradients);

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

// y = softmax(x) over the row.
void softmaxRow(int64_t dim, const float* x, float* y);
void softmaxRow(int64_t dim, const double* x, double* y);

}  // namespace flowmap::cpu
