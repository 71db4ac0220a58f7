// Compiled once per SIMD level. Plain loops are left to the compiler, which vectorises them for the level.
#include "cpu/gated_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gated_rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

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

void GatedForwardF(const GatedRow<float>& row, float* y, float* ty) { gatedForward(row, y, ty); }
void GatedForwardD(const GatedRow<double>& row, double* y, double* ty) { gatedForward(row, y, ty); }
void GatedBackwardF(const GatedRow<float>& row, const GatedRowGradients<float>& out) { gatedBackward(row, out); }
void GatedBackwardD(const GatedRow<double>& row, const GatedRowGradients<double>& out) { gatedBackward(row, out); }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(GatedForwardF);
HWY_EXPORT(GatedForwardD);
HWY_EXPORT(GatedBackwardF);
HWY_EXPORT(GatedBackwardD);

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

}  // namespace flowmap::cpu
#endif
