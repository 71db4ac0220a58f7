// Activations x σ(v(x)) and their derivatives, once for all backends, in Highway's vocabulary. To be included after
// what defines constant() and exp(), once per SIMD level on the CPU (the toggle).
#if defined(FLOWMAP_ACTIVATION_FORMULAS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLOWMAP_ACTIVATION_FORMULAS_INL_H_
#undef FLOWMAP_ACTIVATION_FORMULAS_INL_H_
#else
#define FLOWMAP_ACTIVATION_FORMULAS_INL_H_
#endif

#include "core/elementwise_formulas-inl.h"

#if defined(__CUDACC__)
namespace flowmap::cuda {
#else
HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {
#endif

// The activation and its first two derivatives.
template <class V>
struct Derivatives {
  V value, first, second;
};

// Tanh form: x/2 (1 + tanh(v/2)) = x σ(v), v = √(8/π) (x + 0.044715 x³) (Hendrycks and Gimpel, arXiv 1606.08415). Of
// the two the sigmoid keeps its digits where x is negative and 1 + tanh cancels.
struct Gelu {
  template <class D, class V>
  FLOWMAP_FORMULA static Derivatives<V> at(D d, V x) {
    constexpr double kRoot = 1.5957691216057308, kCubic = kRoot * 0.044715;
    const V one = constant(d, 1), two = constant(d, 2);
    const V x2 = hn::Mul(x, x);
    const V v1 = hn::MulAdd(constant(d, 3 * kCubic), x2, constant(d, kRoot)), v2 = hn::Mul(constant(d, 6 * kCubic), x);
    const V s = sigmoid(d, hn::Mul(x, hn::MulAdd(constant(d, kCubic), x2, constant(d, kRoot))));
    const V slope = hn::Mul(s, hn::Sub(one, s));
    const V bend = hn::MulAdd(hn::Mul(hn::NegMulAdd(two, s, one), v1), v1, v2);
    return {hn::Mul(x, s), hn::MulAdd(hn::Mul(x, slope), v1, s), hn::Mul(slope, hn::MulAdd(x, bend, hn::Mul(two, v1)))};
  }
};

// v = x.
struct Silu {
  template <class D, class V>
  FLOWMAP_FORMULA static Derivatives<V> at(D d, V x) {
    const V one = constant(d, 1), two = constant(d, 2);
    const V s = sigmoid(d, x), rest = hn::Sub(one, s);
    const V slope = hn::Mul(s, rest);
    return {hn::Mul(x, s), hn::MulAdd(x, slope, s), hn::Mul(slope, hn::MulAdd(x, hn::NegMulAdd(two, s, one), two))};
  }
};
}
#if !defined(__CUDACC__)
HWY_AFTER_NAMESPACE();
#endif

#endif  // FLOWMAP_ACTIVATION_FORMULAS_INL_H_
