// Transcendental functions on vectors, over all inputs: Highway's are within 4 ulp where they are defined, and give
// finite values for NaN and garbage beyond; here NaN stays NaN and infinities and poles follow IEEE.
// Included once per SIMD level, from within HWY_TARGET_INCLUDE files.
#if defined(FLOWMAP_VECTOR_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLOWMAP_VECTOR_MATH_INL_H_
#undef FLOWMAP_VECTOR_MATH_INL_H_
#else
#define FLOWMAP_VECTOR_MATH_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cmath>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE hn::Vec<D> constant(D d, double value) {
  return hn::Set(d, static_cast<hn::TFromD<D>>(value));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V exp(D d, V x) {
  // Clamped to just beyond where the result overflows: the scaling by 2^q is only good for q in int range.
  const V limited = hn::Min(x, constant(d, sizeof(hn::TFromD<D>) == 4 ? 89.0 : 710.0));
  return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(d, limited));
}

#if HWY_TARGET <= HWY_AVX3
// Fewer instructions than Highway's, as these processors scale by 2^q in one, overflow and denormal numbers included:
// eˣ = 2^q eʳ with |r| ≤ log(2) / 2, whose polynomial is within 3.1e-9. Within 1 ulp.
HWY_INLINE hn::Vec<hn::ScalableTag<float>> exp(hn::ScalableTag<float> d, hn::Vec<hn::ScalableTag<float>> x) {
  // Beyond, q would be infinite. Of a NaN and a number these give what is on the right.
  const auto limited = decltype(x){_mm512_max_ps(constant(d, -104).raw, _mm512_min_ps(constant(d, 89).raw, x.raw))};
  const auto q = hn::Round(hn::Mul(limited, constant(d, 1.4426950408889634)));
  constexpr double kLog2 = 0.693147182464599609375;  // in float32
  auto r = hn::NegMulAdd(q, constant(d, kLog2), limited);
  r = hn::NegMulAdd(q, constant(d, 0.69314718055994531 - kLog2), r);
  auto y = hn::MulAdd(constant(d, 0.0013814539415761828), r, constant(d, 0.00836874544620514));
  y = hn::MulAdd(y, r, constant(d, 0.04166838899254799));
  y = hn::MulAdd(y, r, constant(d, 0.1666652113199234));
  y = hn::MulAdd(y, r, constant(d, 0.4999999403953552));
  y = hn::MulAdd(y, r, constant(d, 1));
  y = hn::MulAdd(y, r, constant(d, 1));
  return decltype(x){_mm512_scalef_ps(y.raw, q.raw)};
}
#endif

template <class D, class V = hn::Vec<D>>
HWY_INLINE V expm1(D d, V x) {
  const V limited = hn::Min(x, constant(d, sizeof(hn::TFromD<D>) == 4 ? 89.0 : 710.0));
  const V y = hn::Expm1(d, limited);
  // The polynomial loses the sign of -0, and below the smallest normal number expm1(x) is x.
  return hn::IfThenElse(hn::Or(hn::IsNaN(x), hn::Eq(x, hn::Zero(d))), x, y);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V log(D d, V x) {
  const V infinity = constant(d, std::numeric_limits<double>::infinity());
  V y = hn::Log(d, x);
  y = hn::IfThenElse(hn::Eq(x, infinity), infinity, y);
  y = hn::IfThenElse(hn::Eq(x, hn::Zero(d)), hn::Neg(infinity), y);
  y = hn::IfThenElse(hn::Lt(x, hn::Zero(d)), constant(d, std::numeric_limits<double>::quiet_NaN()), y);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V log1p(D d, V x) {
  const V infinity = constant(d, std::numeric_limits<double>::infinity());
  const V minusOne = constant(d, -1);
  V y = hn::Log1p(d, x);
  y = hn::IfThenElse(hn::Eq(x, infinity), infinity, y);
  y = hn::IfThenElse(hn::Eq(x, minusOne), hn::Neg(infinity), y);
  y = hn::IfThenElse(hn::Lt(x, minusOne), constant(d, std::numeric_limits<double>::quiet_NaN()), y);
  return hn::IfThenElse(hn::IsNaN(x), x, y);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V tanh(D d, V x) {
  return hn::IfThenElse(hn::Or(hn::IsNaN(x), hn::Eq(x, hn::Zero(d))), x, hn::Tanh(d, x));
}

// Highway reduces arguments well up to 39000; lanes beyond, infinities and NaN go one by one.
template <class D, class V, class Vector, class Scalar>
HWY_INLINE V trigonometric(D d, V x, Vector vector, Scalar scalar) {
  if (HWY_LIKELY(hn::AllTrue(d, hn::Le(hn::Abs(x), constant(d, 39000))))) return vector(d, x);
  HWY_ALIGN hn::TFromD<D> lanes[hn::MaxLanes(d)];
  hn::Store(x, d, lanes);
  for (size_t i = 0; i < hn::Lanes(d); ++i) lanes[i] = scalar(lanes[i]);
  return hn::Load(d, lanes);
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V sin(D d, V x) {
  const V y = trigonometric(
      d, x, [](D d, V v) { return hn::Sin(d, v); }, [](auto v) { return std::sin(v); });
  return hn::IfThenElse(hn::Eq(x, hn::Zero(d)), x, y);  // without AVX-512 the polynomial loses the sign of -0
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V cos(D d, V x) {
  return trigonometric(
      d, x, [](D d, V v) { return hn::Cos(d, v); }, [](auto v) { return std::cos(v); });
}

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLOWMAP_VECTOR_MATH_INL_H_
