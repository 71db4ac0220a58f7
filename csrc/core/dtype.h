// The element types a tensor may have, and the two 16-bit floats as storage types.
// Arithmetic on 16-bit floats is always done in float32; these types only convert.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "core/host_device.h"

namespace flowmap {

enum class DType : uint8_t { Float32, Float64, BFloat16, Float16, Int32, Bool };

FLOWMAP_HOST_DEVICE inline uint32_t bitsOf(float x) {
#if defined(__CUDA_ARCH__)
  return __float_as_uint(x);
#else
  return std::bit_cast<uint32_t>(x);
#endif
}
FLOWMAP_HOST_DEVICE inline float floatOf(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  return std::bit_cast<float>(bits);
#endif
}

struct BFloat16 {
  uint16_t bits;
  BFloat16() = default;
  // Round to nearest even; NaN keeps its sign and becomes quiet, so that rounding never turns it into infinity.
  FLOWMAP_HOST_DEVICE explicit BFloat16(float x) {
    const uint32_t u = bitsOf(x);
#if defined(__CUDA_ARCH__)
    uint16_t rounded;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded) : "f"(x));
#else
    const uint16_t rounded = static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
#endif
    bits = (u & 0x7fffffffu) > 0x7f800000u ? static_cast<uint16_t>((u >> 16) | 0x40u) : rounded;
  }
  FLOWMAP_HOST_DEVICE explicit operator float() const { return floatOf(static_cast<uint32_t>(bits) << 16); }
};

struct Float16 {
  uint16_t bits;
  Float16() = default;
  FLOWMAP_HOST_DEVICE explicit Float16(float x) {
    const uint32_t u = bitsOf(x);
    const uint32_t sign = (u >> 16) & 0x8000u;
    const uint32_t magnitude = u & 0x7fffffffu;
#if defined(__CUDA_ARCH__)
    uint16_t rounded;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(rounded) : "f"(x));
    bits = magnitude > 0x7f800000u ? static_cast<uint16_t>(sign | 0x7e00u) : rounded;
#else
    if (magnitude > 0x7f800000u) {
      bits = static_cast<uint16_t>(sign | 0x7e00u);
    } else if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more
      bits = static_cast<uint16_t>(sign | 0x7c00u);
    } else if (magnitude < 0x38800000u) {  // subnormal half: adding 0.5 aligns and rounds the mantissa in hardware
      const float aligned = floatOf(magnitude) + 0.5f;
      bits = static_cast<uint16_t>(sign | (bitsOf(aligned) - 0x3f000000u));
    } else {
      const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
      bits = static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
    }
#endif
  }
  FLOWMAP_HOST_DEVICE explicit operator float() const {
#if defined(__CUDA_ARCH__)
    float value;  // the payload of a NaN may differ from the host's
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
#else
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
    const uint32_t exponent = (bits >> 10) & 0x1fu;
    const uint32_t mantissa = bits & 0x3ffu;
    if (exponent == 0) {
      const float value = static_cast<float>(mantissa) * 0x1p-24f;
      return sign ? -value : value;
    }
    if (exponent == 31) return floatOf(sign | 0x7f800000u | (mantissa << 13));
    return floatOf(sign | ((exponent + 112u) << 23) | (mantissa << 13));
#endif
  }
};

constexpr size_t itemSize(DType dtype) {
  switch (dtype) {
    case DType::Float64:
      return 8;
    case DType::Float32:
    case DType::Int32:
      return 4;
    case DType::BFloat16:
    case DType::Float16:
      return 2;
    case DType::Bool:
      return 1;
  }
  return 0;
}

constexpr std::string_view dtypeName(DType dtype) {
  switch (dtype) {
    case DType::Float32:
      return "float32";
    case DType::Float64:
      return "float64";
    case DType::BFloat16:
      return "bfloat16";
    case DType::Float16:
      return "float16";
    case DType::Int32:
      return "int32";
    case DType::Bool:
      return "bool";
  }
  return "unknown";
}

constexpr bool isFloating(DType dtype) { return dtype != DType::Int32 && dtype != DType::Bool; }

// The type in which a dtype's statistics and row scalars (lse, rms, ...) are kept: double for float64, else float.
constexpr DType statisticsDType(DType dtype) { return dtype == DType::Float64 ? DType::Float64 : DType::Float32; }

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::Float32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::Float64;
};
template <>
struct DTypeOf<BFloat16> {
  static constexpr DType value = DType::BFloat16;
};
template <>
struct DTypeOf<Float16> {
  static constexpr DType value = DType::Float16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::Int32;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::Bool;
};

}  // namespace flowmap
