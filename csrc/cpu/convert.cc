// Branch-free conversions in plain loops, compiled once per SIMD level: the compiler vectorises them.
#include "cpu/convert.h"

#include <bit>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/convert.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {
namespace {

// 16-bit floats as float, and the other types as they are.
template <class T>
HWY_INLINE auto widen(T x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
  } else if constexpr (std::is_same_v<T, Float16>) {
    const uint32_t magnitude = static_cast<uint32_t>(x.bits & 0x7fffu) << 13;
    const uint32_t exponent = magnitude & 0x0f800000u;
    const uint32_t rebiased = magnitude + 0x38000000u + (exponent == 0x0f800000u ? 0x38000000u : 0u);
    // A subnormal is read with one exponent too many and a leading one, which the subtraction takes away exactly.
    const float subnormal = std::bit_cast<float>(rebiased + 0x00800000u) - 0x1p-14f;
    const uint32_t bits = exponent == 0 ? std::bit_cast<uint32_t>(subnormal) : rebiased;
    return std::bit_cast<float>(bits | (static_cast<uint32_t>(x.bits & 0x8000u) << 16));
  } else {
    return x;
  }
}

HWY_INLINE BFloat16 toBFloat16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const uint32_t quiet = (u >> 16) | 0x40u;
  BFloat16 y;
  y.bits = static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  return y;
}

HWY_INLINE Float16 toFloat16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const uint32_t magnitude = u & 0x7fffffffu;
  const uint32_t normal = (magnitude + 0xfffu + ((magnitude >> 13) & 1u) - 0x38000000u) >> 13;
  const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
  const uint32_t subnormal = std::bit_cast<uint32_t>(aligned) - 0x3f000000u;
  uint32_t bits = magnitude < 0x38800000u ? subnormal : normal;
  bits = magnitude >= 0x477ff000u ? 0x7c00u : bits;
  bits = magnitude > 0x7f800000u ? 0x7e00u : bits;
  Float16 y;
  y.bits = static_cast<uint16_t>(bits | ((u >> 16) & 0x8000u));
  return y;
}

template <class To, class From>
HWY_INLINE To convert(From x) {
  const auto wide = widen(x);
  using Wide = decltype(wide);
  if constexpr (std::is_same_v<To, uint8_t>) {
    return wide != 0;
  } else if constexpr (std::is_same_v<To, int32_t> && std::is_floating_point_v<std::remove_cv_t<Wide>>) {
    // The largest double or float below 2^31 that truncates within range; float has no value between it and 2^31.
    const double value = wide == wide ? static_cast<double>(wide) : 0.0;
    const double above = value < -2147483648.0 ? -2147483648.0 : value;
    return static_cast<int32_t>(above > 2147483647.0 ? 2147483647.0 : above);
  } else if constexpr (std::is_same_v<To, BFloat16>) {
    return toBFloat16(static_cast<float>(wide));
  } else if constexpr (std::is_same_v<To, Float16>) {
    return toFloat16(static_cast<float>(wide));
  } else {
    return static_cast<To>(wide);
  }
}

template <class To, class From>
void loop(To* HWY_RESTRICT y, const From* HWY_RESTRICT x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = convert<To>(x[i]);
}

template <class To>
void fromAny(To* y, DType from, const void* x, int64_t n) {
  switch (from) {
    case DType::Float32:
      return loop(y, static_cast<const float*>(x), n);
    case DType::Float64:
      return loop(y, static_cast<const double*>(x), n);
    case DType::BFloat16:
      return loop(y, static_cast<const BFloat16*>(x), n);
    case DType::Float16:
      return loop(y, static_cast<const Float16*>(x), n);
    case DType::Int32:
      return loop(y, static_cast<const int32_t*>(x), n);
    case DType::Bool:
      return loop(y, static_cast<const uint8_t*>(x), n);
  }
}

void convertRun(DType to, void* y, DType from, const void* x, int64_t n) {
  switch (to) {
    case DType::Float32:
      return fromAny(static_cast<float*>(y), from, x, n);
    case DType::Float64:
      return fromAny(static_cast<double*>(y), from, x, n);
    case DType::BFloat16:
      return fromAny(static_cast<BFloat16*>(y), from, x, n);
    case DType::Float16:
      return fromAny(static_cast<Float16*>(y), from, x, n);
    case DType::Int32:
      return fromAny(static_cast<int32_t*>(y), from, x, n);
    case DType::Bool:
      return fromAny(static_cast<uint8_t*>(y), from, x, n);
  }
}

}  // namespace
}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(convertRun);
void convertRun(DType to, void* y, DType from, const void* x, int64_t n) {
  HWY_DYNAMIC_DISPATCH(convertRun)(to, y, from, x, n);
}

}  // namespace flowmap::cpu
#endif
