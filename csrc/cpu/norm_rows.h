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

// Rows one call takes. Short ones go together: what is between the sums over a row and its results, a root, divisions
// and the sums' own last steps, is one vector's work for as many rows as it has lanes.
constexpr int64_t kNormRows = 16;
inline int64_t normRowsTogether(int64_t dim) { return dim <= 128 ? kNormRows : 1; }

// At most normRowsTogether(dim) of them, whose affine map is one. All pointers of `count` rows and of the map are
// valid; rows of zeros stand for what is absent. Places for more rows are never set: it would take longer than some
// rows.
template <class C>
struct NormRows {
  int64_t count, dim;
  C eps, offset;
  std::array<const C*, kNormRows> x, tx;
  const C *gain, *tgain, *shift, *tshift;
  bool scaled = true, modulated = true;  // has a gain; has a gain and a part that is added
  std::array<const char*, 4> next{};     // where the row to come is in memory, if one comes alone
  int64_t nextItem = 0;                  // bytes of an element there
};

template <class C>
using RowsOut = std::array<C*, kNormRows>;

// y = x̂ (offset + gain) + shift; ty = u (offset + gain) + x̂ tgain + tshift, unless ty[0] is null.
void normForwardRows(const NormRows<float>& rows, const RowsOut<float>& y, const RowsOut<float>& ty);
void normForwardRows(const NormRows<double>& rows, const RowsOut<double>& y, const RowsOut<double>& ty);

// Cotangents g of y and h of ty. gx and gtx are written unless the first is null; where no shift is summed they may be
// g and h. The sums are added to unless null.
template <class C>
struct NormRowsGradients {
  std::array<const C*, kNormRows> g, h;
  RowsOut<C> gx, gtx;
  C *gainSum, *tgainSum, *shiftSum, *tshiftSum;
};
void normBackwardRows(const NormRows<float>& rows, const NormRowsGradients<float>& gradients);
void normBackwardRows(const NormRows<double>& rows, const NormRowsGradients<double>& gradients);

}  // namespace flowmap::cpu
