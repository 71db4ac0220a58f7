// Compiled once per SIMD level. The loops are plain: within a level's target the compiler vectorises them, and the
// reductions are marked so that it may.
#include "cpu/norm_rows.h"

#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/norm_rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

template <class C>
struct Statistics {
  C r, c;
};

template <class C>
Statistics<C> statistics(const NormRow<C>& row) {
  const int64_t dim = row.dim;
  const C *x = row.x, *tx = row.tx;
  C squares = 0, products = 0;
#pragma omp simd reduction(+ : squares, products)
  for (int64_t i = 0; i < dim; ++i) {
    squares += x[i] * x[i];
    products += x[i] * tx[i];
  }
  const C r = C(1) / std::sqrt(squares / static_cast<C>(dim) + row.eps);
  return {r, r * products / static_cast<C>(dim)};
}

template <class C>
C rowMean(int64_t dim, const C* x) {
  C sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < dim; ++i) sum += x[i];
  return sum / static_cast<C>(dim);
}

template <class C>
void center(int64_t dim, const C* x, C* out) {
  const C mean = rowMean(dim, x);
#pragma omp simd
  for (int64_t i = 0; i < dim; ++i) out[i] = x[i] - mean;
  const C rest = rowMean(dim, out);
#pragma omp simd
  for (int64_t i = 0; i < dim; ++i) out[i] -= rest;
}

template <class C>
void normForward(const NormRow<C>& row, C* HWY_RESTRICT y, C* HWY_RESTRICT ty) {
  const auto [r, c] = statistics(row);
  const int64_t dim = row.dim;
  const C offset = row.offset;
  const C *x = row.x, *tx = row.tx, *gain = row.gain, *tgain = row.tgain, *shift = row.shift, *tshift = row.tshift;
  if (!ty) {
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) y[i] = x[i] * r * (offset + gain[i]) + shift[i];
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < dim; ++i) {
    const C unit = x[i] * r, a = offset + gain[i];
    ty[i] = r * (tx[i] - unit * c) * a + unit * tgain[i] + tshift[i];
    y[i] = unit * a + shift[i];
  }
}

template <class C>
void normBackward(const NormRow<C>& row, const NormRowGradients<C>& out) {
  const auto [r, c] = statistics(row);
  const int64_t dim = row.dim;
  const C offset = row.offset;
  const C *x = row.x, *tx = row.tx, *gain = row.gain, *tgain = row.tgain, *g = out.g, *h = out.h;
  if (out.gx || out.gtx) {
    C inG = 0, inH = 0, withTx = 0;
#pragma omp simd reduction(+ : inG, inH, withTx)
    for (int64_t i = 0; i < dim; ++i) {
      const C unit = x[i] * r, a = offset + gain[i], hw = h[i] * a;
      inG += unit * (g[i] * a + h[i] * tgain[i]);
      inH += unit * hw;
      withTx += hw * tx[i];
    }
    const C n = static_cast<C>(dim);
    inG /= n;
    inH /= n;
    withTx /= n;
    const C along = withTx - 3 * inH * c;
    if (C* HWY_RESTRICT gx = out.gx) {
#pragma omp simd
      for (int64_t i = 0; i < dim; ++i) {
        const C unit = x[i] * r, a = offset + gain[i], hw = h[i] * a;
        gx[i] = r * (g[i] * a + h[i] * tgain[i] - unit * inG) - r * r * (unit * along + c * hw + inH * tx[i]);
      }
    }
    if (C* HWY_RESTRICT gtx = out.gtx) {
#pragma omp simd
      for (int64_t i = 0; i < dim; ++i) gtx[i] = r * (h[i] * (offset + gain[i]) - x[i] * r * inH);
    }
  }
  if (C* HWY_RESTRICT sum = out.gainSum) {
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) {
      const C unit = x[i] * r;
      sum[i] += g[i] * unit + h[i] * r * (tx[i] - unit * c);
    }
  }
  if (C* HWY_RESTRICT sum = out.tgainSum) {
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) sum[i] += h[i] * x[i] * r;
  }
  if (C* HWY_RESTRICT sum = out.shiftSum) {
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) sum[i] += g[i];
  }
  if (C* HWY_RESTRICT sum = out.tshiftSum) {
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) sum[i] += h[i];
  }
}

template <class C>
void gatedForward(const GatedRow<C>& row, C* HWY_RESTRICT y, C* HWY_RESTRICT ty) {
  const int64_t dim = row.dim;
  const C *x = row.x, *gate = row.gate, *z = row.z, *tx = row.tx, *tgate = row.tgate, *tz = row.tz;
  if (ty) {
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) ty[i] = tx[i] + tgate[i] * z[i] + gate[i] * tz[i];
  }
#pragma omp simd
  for (int64_t i = 0; i < dim; ++i) y[i] = x[i] + gate[i] * z[i];
}

template <class C>
void gatedBackward(const GatedRow<C>& row, const GatedRowGradients<C>& out) {
  const int64_t dim = row.dim;
  const C *gate = row.gate, *z = row.z, *tgate = row.tgate, *tz = row.tz, *g = out.g, *h = out.h;
  if (C* HWY_RESTRICT gz = out.gz) {
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) gz[i] = g[i] * gate[i] + h[i] * tgate[i];
  }
  if (C* HWY_RESTRICT gtz = out.gtz) {
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) gtz[i] = h[i] * gate[i];
  }
  if (C* HWY_RESTRICT sum = out.gateSum) {
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) sum[i] += g[i] * z[i] + h[i] * tz[i];
  }
  if (C* HWY_RESTRICT sum = out.tgateSum) {
#pragma omp simd
    for (int64_t i = 0; i < dim; ++i) sum[i] += h[i] * z[i];
  }
}

template <class C>
void softmax(int64_t dim, const C* HWY_RESTRICT x, C* HWY_RESTRICT y) {
  const hn::ScalableTag<C> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  C top = -std::numeric_limits<C>::infinity();
  bool nan = false;
  for (int64_t i = 0; i < dim; ++i) {
    top = x[i] > top ? x[i] : top;
    nan = nan || x[i] != x[i];
  }
  if (nan) top = std::numeric_limits<C>::quiet_NaN();
  int64_t i = 0;
  const auto shift = hn::Set(d, top);
  for (; i + lanes <= dim; i += lanes) hn::StoreU(exp(d, hn::Sub(hn::LoadU(d, x + i), shift)), d, y + i);
  for (; i < dim; ++i) {
    HWY_ALIGN C one[hn::MaxLanes(d)];
    hn::Store(exp(d, hn::Set(d, x[i] - top)), d, one);
    y[i] = one[0];
  }
  C sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < dim; ++j) sum += y[j];
  const C scale = C(1) / sum;
#pragma omp simd
  for (int64_t j = 0; j < dim; ++j) y[j] *= scale;
}

void CenterF(int64_t dim, const float* x, float* out) { center(dim, x, out); }
void CenterD(int64_t dim, const double* x, double* out) { center(dim, x, out); }
void NormForwardF(const NormRow<float>& row, float* y, float* ty) { normForward(row, y, ty); }
void NormForwardD(const NormRow<double>& row, double* y, double* ty) { normForward(row, y, ty); }
void NormBackwardF(const NormRow<float>& row, const NormRowGradients<float>& out) { normBackward(row, out); }
void NormBackwardD(const NormRow<double>& row, const NormRowGradients<double>& out) { normBackward(row, out); }
void GatedForwardF(const GatedRow<float>& row, float* y, float* ty) { gatedForward(row, y, ty); }
void GatedForwardD(const GatedRow<double>& row, double* y, double* ty) { gatedForward(row, y, ty); }
void GatedBackwardF(const GatedRow<float>& row, const GatedRowGradients<float>& out) { gatedBackward(row, out); }
void GatedBackwardD(const GatedRow<double>& row, const GatedRowGradients<double>& out) { gatedBackward(row, out); }
void SoftmaxF(int64_t dim, const float* x, float* y) { softmax(dim, x, y); }
void SoftmaxD(int64_t dim, const double* x, double* y) { softmax(dim, x, y); }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(CenterF);
HWY_EXPORT(CenterD);
HWY_EXPORT(NormForwardF);
HWY_EXPORT(NormForwardD);
HWY_EXPORT(NormBackwardF);
HWY_EXPORT(NormBackwardD);
HWY_EXPORT(GatedForwardF);
HWY_EXPORT(GatedForwardD);
HWY_EXPORT(GatedBackwardF);
HWY_EXPORT(GatedBackwardD);
HWY_EXPORT(SoftmaxF);
HWY_EXPORT(SoftmaxD);

void centerRow(int64_t dim, const float* x, float* out) { HWY_DYNAMIC_DISPATCH(CenterF)(dim, x, out); }
void centerRow(int64_t dim, const double* x, double* out) { HWY_DYNAMIC_DISPATCH(CenterD)(dim, x, out); }
void normForwardRow(const NormRow<float>& row, float* y, float* ty) { HWY_DYNAMIC_DISPATCH(NormForwardF)(row, y, ty); }
void normForwardRow(const NormRow<double>& row, double* y, double* ty) {
  HWY_DYNAMIC_DISPATCH(NormForwardD)(row, y, ty);
}
void normBackwardRow(const NormRow<float>& row, const NormRowGradients<float>& out) {
  HWY_DYNAMIC_DISPATCH(NormBackwardF)(row, out);
}
void normBackwardRow(const NormRow<double>& row, const NormRowGradients<double>& out) {
  HWY_DYNAMIC_DISPATCH(NormBackwardD)(row, out);
}
void gatedForwardRow(const GatedRow<float>& row, float* y, float* ty) {
  HWY_DYNAMIC_DISPATCH(GatedForwardF)(row, y, ty);
}
void gatedForwardRow(const GatedRow<double>& row, double* y, double* ty) {
  HWY_DYNAMIC_DISPATCH(GatedForwardD)(row, y, ty);
}
void gatedBackwardRow(const GatedRow<float>& row, const GatedRowGradients<float>& out) {
  HWY_DYNAMIC_DISPATCH(GatedBackwardF)(row, out);
}
void gatedBackwardRow(const GatedRow<double>& row, const GatedRowGradients<double>& out) {
  HWY_DYNAMIC_DISPATCH(GatedBackwardD)(row, out);
}
void softmaxRow(int64_t dim, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(SoftmaxF)(dim, x, y); }
void softmaxRow(int64_t dim, const double* x, double* y) { HWY_DYNAMIC_DISPATCH(SoftmaxD)(dim, x, y); }

}  // namespace flowmap::cpu
#endif
