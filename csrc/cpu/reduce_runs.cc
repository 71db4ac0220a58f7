// The vector loops behind the reductions, compiled once per SIMD level.
#include "cpu/reduce_runs.h"

#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/reduce_runs.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/vector_math-inl.h"

// after the exponential it calls
#include "core/elementwise_formulas-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int kChains = 4;     // independent sums hide the latency of an addition
constexpr int64_t kLanes = 8;  // sums per chain at every SIMD level, so that all give the same bits

// x[i + chain·8 + lane] goes to sum [chain][lane]; the sums are added in a fixed order.
template <class Acc, class T>
HWY_INLINE Acc lanedSum(const T* HWY_RESTRICT x, int64_t n) {
  Acc sums[kChains * kLanes] = {};
  int64_t i = 0;
  for (; i + kChains * kLanes <= n; i += kChains * kLanes) {
    for (int64_t j = 0; j < kChains * kLanes; ++j) sums[j] += static_cast<Acc>(x[i + j]);
  }
  for (int64_t j = 0; i + j < n; ++j) sums[j] += static_cast<Acc>(x[i + j]);
  for (int64_t width = kChains * kLanes / 2; width > 0; width /= 2) {
    for (int64_t j = 0; j < width; ++j) sums[j] += sums[j + width];
  }
  return sums[0];
}

double sumFloat(const float* x, int64_t n) { return lanedSum<double>(x, n); }
double sumDouble(const double* x, int64_t n) { return lanedSum<double>(x, n); }
int64_t sumInt(const int32_t* x, int64_t n) { return lanedSum<int64_t>(x, n); }

template <class Acc, class T>
HWY_INLINE void anyAdd(Acc* HWY_RESTRICT total, const T* HWY_RESTRICT x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) total[i] += static_cast<Acc>(x[i]);
}
void addFloat(double* total, const float* x, int64_t n) { anyAdd(total, x, n); }
void addDouble(double* total, const double* x, int64_t n) { anyAdd(total, x, n); }
void addInt(int64_t* total, const int32_t* x, int64_t n) { anyAdd(total, x, n); }

template <class T>
HWY_INLINE T better(bool largest, T best, T x) {
  return x != x || (largest ? x > best : x < best) ? x : best;
}

template <bool kLargest, class D, class V>
HWY_INLINE V betterOf(D d, V best, V x) {
  return kLargest ? maximum(d, x, best) : minimum(d, x, best);
}

template <bool kLargest, class T>
HWY_INLINE T extremeOf(const T* x, int64_t n) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  T best = x[0];
  int64_t i = 0;
  if (n >= lanes) {
    auto bests = hn::LoadU(d, x);
    for (i = lanes; i + lanes <= n; i += lanes) bests = betterOf<kLargest>(d, bests, hn::LoadU(d, x + i));
    HWY_ALIGN T each[hn::MaxLanes(d)];
    hn::Store(bests, d, each);
    for (int64_t j = 0; j < lanes; ++j) best = best != best ? best : better(kLargest, best, each[j]);
  }
  for (; i < n; ++i) best = best != best ? best : better(kLargest, best, x[i]);
  return best;
}

template <bool kLargest, class T>
HWY_INLINE void keepExtremeOf(T* HWY_RESTRICT best, const T* HWY_RESTRICT x, int64_t n) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto next = hn::LoadU(d, x + i);
    hn::StoreU(betterOf<kLargest>(d, hn::LoadU(d, best + i), next), d, best + i);
  }
  for (; i < n; ++i) best[i] = best[i] != best[i] ? best[i] : better(kLargest, best[i], x[i]);
}

template <class T>
T anyExtreme(bool largest, const T* x, int64_t n) {
  return largest ? extremeOf<true>(x, n) : extremeOf<false>(x, n);
}
template <class T>
void anyKeepExtreme(bool largest, T* best, const T* x, int64_t n) {
  largest ? keepExtremeOf<true>(best, x, n) : keepExtremeOf<false>(best, x, n);
}

float extremeFloat(bool largest, const float* x, int64_t n) { return anyExtreme(largest, x, n); }
double extremeDouble(bool largest, const double* x, int64_t n) { return anyExtreme(largest, x, n); }
int32_t extremeInt(bool largest, const int32_t* x, int64_t n) { return anyExtreme(largest, x, n); }
uint8_t extremeByte(bool largest, const uint8_t* x, int64_t n) { return anyExtreme(largest, x, n); }
void keepFloat(bool largest, float* best, const float* x, int64_t n) { anyKeepExtreme(largest, best, x, n); }
void keepDouble(bool largest, double* best, const double* x, int64_t n) { anyKeepExtreme(largest, best, x, n); }
void keepInt(bool largest, int32_t* best, const int32_t* x, int64_t n) { anyKeepExtreme(largest, best, x, n); }
void keepByte(bool largest, uint8_t* best, const uint8_t* x, int64_t n) { anyKeepExtreme(largest, best, x, n); }

}  // namespace
}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(sumFloat);
HWY_EXPORT(sumDouble);
HWY_EXPORT(sumInt);
HWY_EXPORT(addFloat);
HWY_EXPORT(addDouble);
HWY_EXPORT(addInt);
HWY_EXPORT(extremeFloat);
HWY_EXPORT(extremeDouble);
HWY_EXPORT(extremeInt);
HWY_EXPORT(extremeByte);
HWY_EXPORT(keepFloat);
HWY_EXPORT(keepDouble);
HWY_EXPORT(keepInt);
HWY_EXPORT(keepByte);

double sumRun(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(sumFloat)(x, n); }
double sumRun(const double* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(sumDouble)(x, n); }
int64_t sumRun(const int32_t* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(sumInt)(x, n); }

void addRun(double* total, const float* x, int64_t n) { HWY_DYNAMIC_DISPATCH(addFloat)(total, x, n); }
void addRun(double* total, const double* x, int64_t n) { HWY_DYNAMIC_DISPATCH(addDouble)(total, x, n); }
void addRun(int64_t* total, const int32_t* x, int64_t n) { HWY_DYNAMIC_DISPATCH(addInt)(total, x, n); }

float extremeRun(bool largest, const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(extremeFloat)(largest, x, n); }
double extremeRun(bool largest, const double* x, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(extremeDouble)(largest, x, n);
}
int32_t extremeRun(bool largest, const int32_t* x, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(extremeInt)(largest, x, n);
}
uint8_t extremeRun(bool largest, const uint8_t* x, int64_t n) {
  return HWY_DYNAMIC_DISPATCH(extremeByte)(largest, x, n);
}

void keepExtremeRun(bool largest, float* best, const float* x, int64_t n) {
  HWY_DYNAMIC_DISPATCH(keepFloat)(largest, best, x, n);
}
void keepExtremeRun(bool largest, double* best, const double* x, int64_t n) {
  HWY_DYNAMIC_DISPATCH(keepDouble)(largest, best, x, n);
}
void keepExtremeRun(bool largest, int32_t* best, const int32_t* x, int64_t n) {
  HWY_DYNAMIC_DISPATCH(keepInt)(largest, best, x, n);
}
void keepExtremeRun(bool largest, uint8_t* best, const uint8_t* x, int64_t n) {
  HWY_DYNAMIC_DISPATCH(keepByte)(largest, best, x, n);
}

}  // namespace flowmap::cpu
#endif
