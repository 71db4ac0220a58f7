// The elementwise formulas that take more than one instruction, once for all backends, in Highway's vocabulary. The CPU
// includes this once per SIMD level (the toggle): hn is Highway and V a vector. CUDA's kernels include it once, by way
// of cuda/scalar_lanes.cuh, where hn works on one value. Transcendental functions are each backend's own: the vector
// forms of the CPU would be slow on a GPU, whose library has them per value, with IEEE's edges.
#if defined(FLOWMAP_ELEMENTWISE_FORMULAS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLOWMAP_ELEMENTWISE_FORMULAS_INL_H_
#undef FLOWMAP_ELEMENTWISE_FORMULAS_INL_H_
#else
#define FLOWMAP_ELEMENTWISE_FORMULAS_INL_H_
#endif

#include <type_traits>

#undef FLOWMAP_FORMULA
#if defined(__CUDACC__)
#define FLOWMAP_FORMULA __device__ __forceinline__
namespace flowmap::cuda {
#else
#include <hwy/highway.h>
#define FLOWMAP_FORMULA HWY_INLINE
HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
#endif

// Zeros keep their sign, NaN stays.
template <class D, class V>
FLOWMAP_FORMULA V signOf(D d, V x) {
  const V zero = hn::Zero(d), one = hn::Set(d, 1);
  const V signs = hn::Sub(hn::IfThenElseZero(hn::Gt(x, zero), one), hn::IfThenElseZero(hn::Lt(x, zero), one));
  if constexpr (std::is_floating_point_v<hn::TFromD<D>>) {
    return hn::IfThenElse(hn::Or(hn::IsNaN(x), hn::Eq(x, zero)), x, signs);
  } else {
    return signs;
  }
}

// exp(-x) may overflow to infinity, of which 1/(1 + ∞) makes the right zero; it is never divided by itself.
template <class D, class V>
FLOWMAP_FORMULA V sigmoid(D d, V x) {
  const V one = hn::Set(d, 1);
  return hn::Div(one, hn::Add(one, exp(d, hn::Neg(x))));
}

// a wherever it is the larger or NaN, b elsewhere (and so where b is NaN).
template <class D, class V>
FLOWMAP_FORMULA V maximum(D, V a, V b) {
  if constexpr (std::is_floating_point_v<hn::TFromD<D>>) {
    return hn::IfThenElse(hn::Or(hn::Gt(a, b), hn::IsNaN(a)), a, b);
  } else {
    return hn::Max(a, b);
  }
}

template <class D, class V>
FLOWMAP_FORMULA V minimum(D, V a, V b) {
  if constexpr (std::is_floating_point_v<hn::TFromD<D>>) {
    return hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::IsNaN(a)), a, b);
  } else {
    return hn::Min(a, b);
  }
}

// Comparisons are false for NaN, which so stays.
template <class D, class V>
FLOWMAP_FORMULA V clampTo(D, V x, V low, V high) {
  return hn::IfThenElse(hn::Lt(x, low), low, hn::IfThenElse(hn::Gt(x, high), high, x));
}
}
#if !defined(__CUDACC__)
HWY_AFTER_NAMESPACE();
#endif

#endif  // FLOWMAP_ELEMENTWISE_FORMULAS_INL_H_
