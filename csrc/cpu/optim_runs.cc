// Compiled once per SIMD level. Products and sums are rounded one by one, as on every device, so nothing is a MulAdd
// here.
#include "cpu/optim_runs.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/optim_runs.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <bool kAdaptive, bool kCoupled, class C>
void moments(const MomentNumbers<C>& with, const MomentRun<C>& run) {
  const hn::ScalableTag<C> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto beta1 = hn::Set(d, with.beta1), beta2 = hn::Set(d, with.beta2), rest1 = hn::Set(d, with.rest1),
             rest2 = hn::Set(d, with.rest2), rate = hn::Set(d, with.rate), decay = hn::Set(d, with.decay),
             coupledDecay = hn::Set(d, with.coupledDecay), root = hn::Set(d, with.root), eps = hn::Set(d, with.eps),
             factor = hn::Set(d, run.factor);
  int64_t i = 0;
  for (; i + lanes <= run.n; i += lanes) {
    const auto old = hn::LoadU(d, run.value + i);
    auto gradient = hn::Mul(hn::LoadU(d, run.gradient + i), factor);
    if (kCoupled) gradient = hn::Add(gradient, hn::Mul(coupledDecay, old));
    const auto m = hn::Add(hn::Mul(beta1, hn::LoadU(d, run.m + i)), hn::Mul(rest1, gradient));
    const auto v = hn::Add(hn::Mul(beta2, hn::LoadU(d, run.v + i)), hn::Mul(hn::Mul(rest2, gradient), gradient));
    auto change = hn::Mul(rate, m);
    if (kAdaptive) change = hn::Div(change, hn::Add(hn::Mul(hn::Sqrt(v), root), eps));
    hn::StoreU(m, d, run.m + i);
    hn::StoreU(v, d, run.v + i);
    hn::StoreU(hn::Sub(hn::Mul(old, decay), change), d, run.value + i);
  }
  for (; i < run.n; ++i) {
    const Moments<C> next = momentUpdate(with, kAdaptive, kCoupled, Moments<C>{run.value[i], run.m[i], run.v[i]},
                                         product(run.gradient[i], run.factor));
    run.value[i] = next.value;
    run.m[i] = next.m;
    run.v[i] = next.v;
  }
}

template <class C>
void momentsOf(const MomentNumbers<C>& with, bool adaptive, bool coupled, const MomentRun<C>& run) {
  if (adaptive) {
    coupled ? moments<true, true>(with, run) : moments<true, false>(with, run);
  } else {
    coupled ? moments<false, true>(with, run) : moments<false, false>(with, run);
  }
}

template <class C>
void averages(int64_t n, C keep, C* HWY_RESTRICT average, C take, const C* HWY_RESTRICT value) {
  const hn::ScalableTag<C> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto kept = hn::Set(d, keep), taken = hn::Set(d, take);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto old = hn::Mul(kept, hn::LoadU(d, average + i));
    hn::StoreU(hn::Add(old, hn::Mul(taken, hn::LoadU(d, value + i))), d, average + i);
  }
  for (; i < n; ++i) average[i] = averageUpdate(keep, average[i], take, value[i]);
}

template <class D>
HWY_INLINE hn::Vec<D> loadDouble(D d, const double* x) {
  return hn::LoadU(d, x);
}
template <class D>
HWY_INLINE hn::Vec<D> loadDouble(D d, const float* x) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D>(), x));
}

// Column j of 32 adds up elements j, j + 32, …, whatever the length of vectors is.
template <class C>
double squares(int64_t n, const C* HWY_RESTRICT x) {
  const hn::ScalableTag<double> d;
  constexpr int64_t kColumns = 32, kLanes = static_cast<int64_t>(hn::MaxLanes(d)), kVectors = kColumns / kLanes;
  hn::Vec<decltype(d)> sums[kVectors];
#pragma GCC unroll 32
  for (int64_t k = 0; k < kVectors; ++k) sums[k] = hn::Zero(d);
  int64_t i = 0;
  for (; i + kColumns <= n; i += kColumns) {
#pragma GCC unroll 32
    for (int64_t k = 0; k < kVectors; ++k) {
      const auto value = loadDouble(d, x + i + k * kLanes);
      sums[k] = hn::Add(sums[k], hn::Mul(value, value));
    }
  }
  HWY_ALIGN double columns[kColumns];
#pragma GCC unroll 32
  for (int64_t k = 0; k < kVectors; ++k) hn::Store(sums[k], d, columns + k * kLanes);
  for (int64_t j = 0; i + j < n; ++j)
    columns[j] += product(static_cast<double>(x[i + j]), static_cast<double>(x[i + j]));
  double total = 0;
  for (const double column : columns) total += column;
  return total;
}

void MomentsF(const MomentNumbers<float>& with, bool adaptive, bool coupled, const MomentRun<float>& run) {
  momentsOf(with, adaptive, coupled, run);
}
void MomentsD(const MomentNumbers<double>& with, bool adaptive, bool coupled, const MomentRun<double>& run) {
  momentsOf(with, adaptive, coupled, run);
}
void AveragesF(int64_t n, float keep, float* average, float take, const float* value) {
  averages(n, keep, average, take, value);
}
void AveragesD(int64_t n, double keep, double* average, double take, const double* value) {
  averages(n, keep, average, take, value);
}
double SquaresF(int64_t n, const float* x) { return squares(n, x); }
double SquaresD(int64_t n, const double* x) { return squares(n, x); }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(MomentsF);
HWY_EXPORT(MomentsD);
HWY_EXPORT(AveragesF);
HWY_EXPORT(AveragesD);
HWY_EXPORT(SquaresF);
HWY_EXPORT(SquaresD);

void momentRun(const MomentNumbers<float>& with, bool adaptive, bool coupled, const MomentRun<float>& run) {
  HWY_DYNAMIC_DISPATCH(MomentsF)(with, adaptive, coupled, run);
}
void momentRun(const MomentNumbers<double>& with, bool adaptive, bool coupled, const MomentRun<double>& run) {
  HWY_DYNAMIC_DISPATCH(MomentsD)(with, adaptive, coupled, run);
}
void averageRun(int64_t n, float keep, float* average, float take, const float* value) {
  HWY_DYNAMIC_DISPATCH(AveragesF)(n, keep, average, take, value);
}
void averageRun(int64_t n, double keep, double* average, double take, const double* value) {
  HWY_DYNAMIC_DISPATCH(AveragesD)(n, keep, average, take, value);
}
double squaresRun(int64_t n, const float* x) { return HWY_DYNAMIC_DISPATCH(SquaresF)(n, x); }
double squaresRun(int64_t n, const double* x) { return HWY_DYNAMIC_DISPATCH(SquaresD)(n, x); }

}  // namespace flowmap::cpu
#endif
