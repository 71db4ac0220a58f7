// cvt: rounding, clamping, sign extension, 16-bit formats.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cfenv>
#include <cmath>
#include <limits>

#include "compare.cuh"

namespace selftest {
namespace {

template <class D>
D clamped(double whole) {
  if (whole != whole) return 0;
  if (whole >= std::ldexp(std::is_signed_v<D> ? 0.5 : 1.0, 8 * sizeof(D))) return std::numeric_limits<D>::max();
  if (whole <= double(std::numeric_limits<D>::min())) return std::numeric_limits<D>::min();
  return D(whole);
}

struct RzS32F32 {
  __device__ static int32_t device(float a) { return __float2int_rz(a); }
  static int32_t host(float a) { return clamped<int32_t>(std::trunc(a)); }
};
struct RnS32F32 {
  __device__ static int32_t device(float a) { return __float2int_rn(a); }
  static int32_t host(float a) { return clamped<int32_t>(std::nearbyint(a)); }
};
struct RmU32F32 {
  __device__ static uint32_t device(float a) { return __float2uint_rd(a); }
  static uint32_t host(float a) { return clamped<uint32_t>(std::floor(a)); }
};
struct RpS64F64 {
  __device__ static int64_t device(double a) { return __double2ll_ru(a); }
  static int64_t host(double a) { return a != a ? INT64_MIN : clamped<int64_t>(std::ceil(a)); }
};
struct RzU64F32 {
  __device__ static uint64_t device(float a) { return __float2ull_rz(a); }
  static uint64_t host(float a) { return a != a ? 0x8000000000000000ull : clamped<uint64_t>(std::trunc(a)); }
};
struct RnF32S32 {
  __device__ static float device(int32_t a) { return __int2float_rn(a); }
  static float host(int32_t a) { return float(a); }
};
struct RzF32U64 {
  __device__ static float device(uint64_t a) { return __ull2float_rz(a); }
  static float host(uint64_t a) {
    // The leading 24 bits, the rest cut off.
    int shift = 0;
    while (a >> shift >> 24) ++shift;
    return std::ldexp(float(a >> shift), shift);
  }
};
struct RnF32F64 {
  __device__ static float device(double a) { return __double2float_rn(a); }
  static float host(double a) { return float(a); }
};
struct RpF32F64 {
  __device__ static float device(double a) { return __double2float_ru(a); }
  static float host(double a) {
    const float near = float(a);
    return near >= a || a != a ? near : std::nextafter(near, INFINITY);
  }
};
struct SatS8S32 {
  __device__ static int32_t device(int32_t a) {
    int32_t d;
    asm("cvt.sat.s8.s32 %0, %1;" : "=r"(d) : "r"(a));
    return d;
  }
  static int32_t host(int32_t a) { return a < -128 ? -128 : a > 127 ? 127 : a; }
};
struct S64S8 {
  __device__ static int64_t device(int32_t a) {
    int64_t d;
    asm("cvt.s64.s8 %0, %1;" : "=l"(d) : "r"(a));
    return d;
  }
  static int64_t host(int32_t a) { return int8_t(a); }
};
struct U32U16 {
  __device__ static uint32_t device(uint16_t a) {
    uint32_t d;
    asm("cvt.u32.u16 %0, %1;" : "=r"(d) : "h"(a));
    return d;
  }
  static uint32_t host(uint16_t a) { return a; }
};
struct RniF32 {
  __device__ static float device(float a) {
    float d;
    asm("cvt.rni.f32.f32 %0, %1;" : "=f"(d) : "f"(a));
    return d;
  }
  static float host(float a) { return std::nearbyint(a); }
};
struct SatF32 {
  __device__ static float device(float a) { return __saturatef(a); }
  static float host(float a) { return a > 0 ? (a < 1 ? a : 1.0f) : 0.0f; }
};
struct F16F32 {
  __device__ static uint16_t device(float a) { return __half_as_ushort(__float2half_rn(a)); }
  static uint16_t host(float a) { return a != a ? 0x7fff : __half_as_ushort(__float2half_rn(a)); }
};
struct RzF16F32 {
  __device__ static uint16_t device(float a) { return __half_as_ushort(__float2half_rz(a)); }
  static uint16_t host(float a) { return a != a ? 0x7fff : __half_as_ushort(__float2half_rz(a)); }
};
struct F32F16 {
  __device__ static float device(uint16_t a) { return __half2float(__ushort_as_half(a)); }
  static float host(uint16_t a) { return __half2float(__ushort_as_half(a)); }
};
struct Bf16F32 {
  __device__ static uint16_t device(float a) { return __bfloat16_as_ushort(__float2bfloat16_rn(a)); }
  static uint16_t host(float a) { return a != a ? 0x7fff : __bfloat16_as_ushort(__float2bfloat16_rn(a)); }
};
struct Bf16x2F32 {
  __device__ static uint32_t device(float a, float b) {
    uint32_t d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(a), "f"(b));
    return d;
  }
  static uint32_t host(float a, float b) { return uint32_t(Bf16F32::host(a)) << 16 | Bf16F32::host(b); }
};
struct ReluF16x2F32 {
  __device__ static uint32_t device(float a, float b) {
    uint32_t d;
    asm("cvt.rn.relu.f16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(a), "f"(b));
    return d;
  }
  static uint32_t host(float a, float b) {
    const auto one = [](float x) { return std::signbit(x) && x == x ? uint16_t(0) : F16F32::host(x); };
    return uint32_t(one(a)) << 16 | one(b);
  }
};
struct RzS32F16 {
  __device__ static int32_t device(uint16_t a) { return __half2int_rz(__ushort_as_half(a)); }
  static int32_t host(uint16_t a) { return clamped<int32_t>(std::trunc(double(__half2float(__ushort_as_half(a))))); }
};
struct RnaTf32F32 {
  __device__ static uint32_t device(float a) {
    uint32_t d;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(d) : "f"(a));
    return d;
  }
  static uint32_t host(float a) {
    uint32_t bits;
    std::memcpy(&bits, &a, 4);
    if (a != a) return 0x7fffffff;
    return std::isinf(a) ? bits : (bits + 0x1000) & ~0x1fffu;
  }
};

}  // namespace

void testConversions() {
  unary<RzS32F32, int32_t, float>("cvt.rzi.s32.f32");
  unary<RnS32F32, int32_t, float>("cvt.rni.s32.f32");
  unary<RmU32F32, uint32_t, float>("cvt.rmi.u32.f32");
  unary<RpS64F64, int64_t, double>("cvt.rpi.s64.f64");
  unary<RzU64F32, uint64_t, float>("cvt.rzi.u64.f32");
  unary<RnF32S32, float, int32_t>("cvt.rn.f32.s32");
  unary<RzF32U64, float, uint64_t>("cvt.rz.f32.u64");
  unary<RnF32F64, float, double>("cvt.rn.f32.f64");
  unary<RpF32F64, float, double>("cvt.rp.f32.f64");
  unary<SatS8S32, int32_t, int32_t>("cvt.sat.s8.s32");
  unary<S64S8, int64_t, int32_t>("cvt.s64.s8");
  unary<U32U16, uint32_t, uint16_t>("cvt.u32.u16");
  unary<RniF32, float, float>("cvt.rni.f32.f32");
  unary<SatF32, float, float>("cvt.sat.f32.f32");
  unary<F16F32, uint16_t, float>("cvt.rn.f16.f32");
  unary<RzF16F32, uint16_t, float>("cvt.rz.f16.f32");
  unary<F32F16, float, uint16_t>("cvt.f32.f16");
  unary<Bf16F32, uint16_t, float>("cvt.rn.bf16.f32");
  binary<Bf16x2F32, uint32_t, float, float>("cvt.rn.bf16x2.f32");
  binary<ReluF16x2F32, uint32_t, float, float>("cvt.rn.relu.f16x2.f32");
  unary<RzS32F16, int32_t, uint16_t>("cvt.rzi.s32.f16");
  unary<RnaTf32F32, uint32_t, float>("cvt.rna.tf32.f32");
}

}  // namespace selftest
