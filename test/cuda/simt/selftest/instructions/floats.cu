// Floating-point instructions: rounding, flushing, saturation, NaN and signed zeros, 16-bit formats.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cfenv>
#include <cmath>
#include <limits>

#include "compare.cuh"

namespace selftest {
namespace {

float flush(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }
float saturate(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }

/** Something computed with another rounding mode; the operands are volatile so that it happens here and now. */
template <class T, class Function>
T rounded(int mode, T a, T b, Function function) {
  volatile T x = a, y = b;
  std::fesetround(mode);
  volatile T result = function(x, y);
  std::fesetround(FE_TONEAREST);
  return result;
}

struct AddRn {
  __device__ static float device(float a, float b) { return __fadd_rn(a, b); }
  static float host(float a, float b) { return a + b; }
};
struct AddRz {
  __device__ static float device(float a, float b) { return __fadd_rz(a, b); }
  static float host(float a, float b) {
    return rounded(FE_TOWARDZERO, a, b, [](float x, float y) { return x + y; });
  }
};
struct MulRp {
  __device__ static float device(float a, float b) { return __fmul_ru(a, b); }
  static float host(float a, float b) {
    return rounded(FE_UPWARD, a, b, [](float x, float y) { return x * y; });
  }
};
struct DivRmF64 {
  __device__ static double device(double a, double b) { return __ddiv_rd(a, b); }
  static double host(double a, double b) {
    return rounded(FE_DOWNWARD, a, b, [](double x, double y) { return x / y; });
  }
};
struct MulFtz {
  __device__ static float device(float a, float b) {
    float d;
    asm("mul.ftz.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
  }
  static float host(float a, float b) { return flush(flush(a) * flush(b)); }
};
struct AddSat {
  __device__ static float device(float a, float b) {
    float d;
    asm("add.sat.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
  }
  static float host(float a, float b) { return saturate(a + b); }
};
struct MinF32 {
  __device__ static float device(float a, float b) {
    float d;
    asm("min.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
  }
  static float host(float a, float b) {
    if (a != a || b != b) return a != a ? b : a;
    return a == b ? (std::signbit(a) ? a : b) : a < b ? a : b;
  }
};
struct MaxNan {
  __device__ static float device(float a, float b) {
    float d;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(d) : "f"(a), "f"(b));
    return d;
  }
  static float host(float a, float b) {
    if (a != a || b != b) return NAN;
    return a == b ? (std::signbit(a) ? b : a) : a < b ? b : a;
  }
};
struct FmaF32 {
  __device__ static float device(float a, float b, float c) { return __fmaf_rn(a, b, c); }
  static float host(float a, float b, float c) { return std::fma(a, b, c); }
};
struct FmaF64 {
  __device__ static double device(double a, double b) { return __fma_rn(a, b, a); }
  static double host(double a, double b) { return std::fma(a, b, a); }
};
struct DivRn {
  __device__ static float device(float a, float b) { return __fdiv_rn(a, b); }
  static float host(float a, float b) { return a / b; }
};
struct RcpRn {
  __device__ static float device(float a) { return __frcp_rn(a); }
  static float host(float a) { return 1 / a; }
};
struct SqrtRn {
  __device__ static float device(float a) { return __fsqrt_rn(a); }
  static float host(float a) { return std::sqrt(a); }
};
struct SqrtF64 {
  __device__ static double device(double a) { return __dsqrt_rn(a); }
  static double host(double a) { return std::sqrt(a); }
};
struct Ex2Ftz {
  __device__ static float device(float a) {
    float d;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(d) : "f"(a));
    return d;
  }
  static float host(float a) { return flush(float(std::exp2(double(flush(a))))); }
};
struct Lg2 {
  __device__ static float device(float a) {
    float d;
    asm("lg2.approx.f32 %0, %1;" : "=f"(d) : "f"(a));
    return d;
  }
  static float host(float a) { return float(std::log2(double(a))); }
};
struct TanhApprox {
  __device__ static float device(float a) {
    float d;
    asm("tanh.approx.f32 %0, %1;" : "=f"(d) : "f"(a));
    return d;
  }
  static float host(float a) { return float(std::tanh(double(a))); }
};
struct Rsqrt {
  __device__ static float device(float a) {
    float d;
    asm("rsqrt.approx.f32 %0, %1;" : "=f"(d) : "f"(a));
    return d;
  }
  static float host(float a) { return a == 0 ? std::copysign(INFINITY, a) : float(1 / std::sqrt(double(a))); }
};
struct SetpLtu {
  __device__ static uint32_t device(float a, float b) {
    uint32_t d;
    asm("{ .reg .pred p; setp.ltu.f32 p, %1, %2; selp.u32 %0, 1, 0, p; }" : "=r"(d) : "f"(a), "f"(b));
    return d;
  }
  static uint32_t host(float a, float b) { return !(a >= b); }
};
struct SetpNe {
  __device__ static uint32_t device(float a, float b) {
    uint32_t d;
    asm("{ .reg .pred p; setp.ne.f32 p, %1, %2; selp.u32 %0, 1, 0, p; }" : "=r"(d) : "f"(a), "f"(b));
    return d;
  }
  static uint32_t host(float a, float b) { return a < b || a > b; }
};
struct CopySign {
  __device__ static double device(double a, double b) {
    double d;
    asm("copysign.f64 %0, %1, %2;" : "=d"(d) : "d"(a), "d"(b));
    return d;
  }
  static double host(double a, double b) { return std::copysign(b, a); }
};
struct TestpSubnormal {
  __device__ static uint32_t device(float a) {
    uint32_t d;
    asm("{ .reg .pred p; testp.subnormal.f32 p, %1; selp.u32 %0, 1, 0, p; }" : "=r"(d) : "f"(a));
    return d;
  }
  static uint32_t host(float a) { return std::fpclassify(a) == FP_SUBNORMAL; }
};

// ---- 16-bit formats: values are their bits ----

double half(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
double bfloat(uint16_t bits) { return __bfloat162float(__ushort_as_bfloat16(bits)); }
uint16_t nanAs7fff(uint16_t bits, double value) { return value != value ? 0x7fff : bits; }
uint16_t toHalf(double x) { return nanAs7fff(__half_as_ushort(__double2half(x)), x); }
uint16_t toBfloat(double x) { return nanAs7fff(__bfloat16_as_ushort(__double2bfloat16(x)), x); }

struct AddF16 {
  __device__ static uint16_t device(uint16_t a, uint16_t b) {
    uint16_t d;
    asm("add.f16 %0, %1, %2;" : "=h"(d) : "h"(a), "h"(b));
    return d;
  }
  static uint16_t host(uint16_t a, uint16_t b) { return toHalf(half(a) + half(b)); }
};
struct FmaF16 {
  __device__ static uint16_t device(uint16_t a, uint16_t b, uint16_t c) {
    uint16_t d;
    asm("fma.rn.f16 %0, %1, %2, %3;" : "=h"(d) : "h"(a), "h"(b), "h"(c));
    return d;
  }
  static uint16_t host(uint16_t a, uint16_t b, uint16_t c) { return toHalf(std::fma(half(a), half(b), half(c))); }
};
struct FmaReluBf16 {
  __device__ static uint16_t device(uint16_t a, uint16_t b) {
    uint16_t d;
    asm("fma.rn.relu.bf16 %0, %1, %2, %1;" : "=h"(d) : "h"(a), "h"(b));
    return d;
  }
  static uint16_t host(uint16_t a, uint16_t b) {
    // The products of 8-bit mantissas and their sums with a are exact in long double for these values.
    const long double exact = (long double)bfloat(a) * bfloat(b) + bfloat(a);
    if (exact != exact) return 0x7fff;
    return exact < 0 || (exact == 0 && std::signbit(exact)) ? 0 : toBfloat(double(exact));
  }
};
struct MulF16x2 {
  __device__ static uint32_t device(uint16_t a, uint16_t b) {
    uint32_t d;
    asm("{ .reg .b32 x, y; mov.b32 x, {%1, %2}; mov.b32 y, {%2, %2}; mul.f16x2 %0, x, y; }" : "=r"(d) : "h"(a), "h"(b));
    return d;
  }
  static uint32_t host(uint16_t a, uint16_t b) {
    return toHalf(half(a) * half(b)) | uint32_t(toHalf(half(b) * half(b))) << 16;
  }
};
struct MaxBf16x2 {
  __device__ static uint32_t device(uint16_t a, uint16_t b) {
    uint32_t d;
    asm("{ .reg .b32 x, y; mov.b32 x, {%1, %2}; mov.b32 y, {%2, %1}; max.bf16x2 %0, x, y; }"
        : "=r"(d)
        : "h"(a), "h"(b));
    return d;
  }
  static uint32_t host(uint16_t a, uint16_t b) {
    const double x = bfloat(a), y = bfloat(b);
    uint16_t value = x != x ? b : y != y ? a : x == y ? (std::signbit(x) ? b : a) : x < y ? b : a;
    if (bfloat(value) != bfloat(value)) value = 0x7fff;
    return value | uint32_t(value) << 16;
  }
};
struct NegF16 {
  __device__ static uint16_t device(uint16_t a) {
    uint16_t d;
    asm("neg.f16 %0, %1;" : "=h"(d) : "h"(a));
    return d;
  }
  static uint16_t host(uint16_t a) { return a ^ 0x8000; }
};
struct SetpGtF16 {
  __device__ static uint32_t device(uint16_t a, uint16_t b) {
    uint32_t d;
    asm("{ .reg .pred p; setp.gt.f16 p, %1, %2; selp.u32 %0, 1, 0, p; }" : "=r"(d) : "h"(a), "h"(b));
    return d;
  }
  static uint32_t host(uint16_t a, uint16_t b) { return half(a) > half(b); }
};

}  // namespace

void testFloats() {
  binary<AddRn, float, float, float>("add.rn.f32");
  binary<AddRz, float, float, float>("add.rz.f32");
  binary<MulRp, float, float, float>("mul.rp.f32");
  binary<DivRmF64, double, double, double>("div.rm.f64");
  binary<MulFtz, float, float, float>("mul.ftz.f32");
  binary<AddSat, float, float, float>("add.sat.f32");
  binary<MinF32, float, float, float>("min.f32");
  binary<MaxNan, float, float, float>("max.NaN.f32");
  ternary<FmaF32, float, float, float, float>("fma.rn.f32");
  binary<FmaF64, double, double, double>("fma.rn.f64");
  binary<DivRn, float, float, float>("div.rn.f32");
  unary<RcpRn, float, float>("rcp.rn.f32");
  unary<SqrtRn, float, float>("sqrt.rn.f32");
  unary<SqrtF64, double, double>("sqrt.rn.f64");
  unary<Ex2Ftz, float, float>("ex2.approx.ftz.f32");
  unary<Lg2, float, float>("lg2.approx.f32");
  unary<TanhApprox, float, float>("tanh.approx.f32");
  unary<Rsqrt, float, float>("rsqrt.approx.f32");
  binary<SetpLtu, uint32_t, float, float>("setp.ltu.f32");
  binary<SetpNe, uint32_t, float, float>("setp.ne.f32");
  binary<CopySign, double, double, double>("copysign.f64");
  unary<TestpSubnormal, uint32_t, float>("testp.subnormal.f32");
  binary<AddF16, uint16_t, uint16_t, uint16_t>("add.f16");
  ternary<FmaF16, uint16_t, uint16_t, uint16_t, uint16_t>("fma.rn.f16");
  binary<FmaReluBf16, uint16_t, uint16_t, uint16_t>("fma.rn.relu.bf16");
  binary<MulF16x2, uint32_t, uint16_t, uint16_t>("mul.f16x2");
  binary<MaxBf16x2, uint32_t, uint16_t, uint16_t>("max.bf16x2");
  unary<NegF16, uint16_t, uint16_t>("neg.f16");
  binary<SetpGtF16, uint32_t, uint16_t, uint16_t>("setp.gt.f16");
}

}  // namespace selftest
