// Compiled once per SIMD level.
#include "cpu/softmax_rows.h"

#include <algorithm>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/softmax_rows.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/row_vectors-inl.h"
#include "cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

// NaN if one of them is: vectors lose it where it meets a number.
template <class C>
C highest(int64_t dim, const C* x) {
  const hn::ScalableTag<C> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  C top = -std::numeric_limits<C>::infinity();
  bool nan = false;
  if (dim < lanes) {
    for (int64_t i = 0; i < dim; ++i) {
      top = x[i] > top ? x[i] : top;
      nan = nan || x[i] != x[i];
    }
  } else {
    auto tops = hn::LoadU(d, x);
    auto unordered = hn::IsNaN(tops);
    // The last vector may begin among what has been seen.
    for (int64_t i = lanes; i < dim; i += lanes) {
      const auto at = hn::LoadU(d, x + std::min(i, dim - lanes));
      unordered = hn::Or(unordered, hn::IsNaN(at));
      tops = hn::Max(tops, at);
    }
    top = hn::GetLane(hn::MaxOfLanes(d, tops));
    nan = !hn::AllFalse(d, unordered);
  }
  return nan ? std::numeric_limits<C>::quiet_NaN() : top;
}

template <class C>
void softmax(int64_t dim, const C* x, C* y) {
  const hn::ScalableTag<C> d;
  const auto top = hn::Set(d, highest(dim, x));
  forVectors<C>(dim, [=](auto at) HWY_ATTR { at.store(exp(d, hn::Sub(at.load(x), top)), y); });
  const auto [sum] =
      sumVectors<C, 1>(dim, [=](auto at, auto* sums) HWY_ATTR { sums[0] = hn::Add(sums[0], at.load(y)); });
  const auto scale = hn::Set(d, C(1) / sum);
  forVectors<C>(dim, [=](auto at) HWY_ATTR { at.store(hn::Mul(at.load(y), scale), y); });
}

void SoftmaxF(int64_t dim, const float* x, float* y) { softmax(dim, x, y); }
void SoftmaxD(int64_t dim, const double* x, double* y) { softmax(dim, x, y); }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(SoftmaxF);
HWY_EXPORT(SoftmaxD);

void softmaxRow(int64_t dim, const float* x, float* y) { HWY_DYNAMIC_DISPATCH(SoftmaxF)(dim, x, y); }
void softmaxRow(int64_t dim, const double* x, double* y) { HWY_DYNAMIC_DISPATCH(SoftmaxD)(dim, x, y); }

}  // namespace flowmap::cpu
#endif
