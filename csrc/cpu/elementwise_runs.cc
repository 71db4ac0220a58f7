// The vector loops behind the elementwise kernels, compiled once per SIMD level.
#include "cpu/elementwise_runs.h"

#include <cmath>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/elementwise_runs.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/vector_math-inl.h"

// after the exponential it calls
#include "core/elementwise_formulas-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {
namespace {

// The tail goes through a vector as well, so that every element is computed by the same instructions.
template <class T, class Op>
HWY_INLINE void mapUnary(T* HWY_RESTRICT y, const T* HWY_RESTRICT x, int64_t n, Op op) {
  const hn::ScalableTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(op(d, hn::LoadU(d, x + i)), d, y + i);
  if (i == n) return;
  HWY_ALIGN T tail[hn::MaxLanes(d)];
  for (int64_t j = 0; j < lanes; ++j) tail[j] = x[i + j < n ? i + j : i];
  hn::Store(op(d, hn::Load(d, tail)), d, tail);
  for (int64_t j = i; j < n; ++j) y[j] = tail[j - i];
}

template <bool kAStep, bool kBStep, class T, class Op>
HWY_INLINE void mapBinarySteps(T* HWY_RESTRICT y, const T* HWY_RESTRICT a, const T* HWY_RESTRICT b, int64_t n, Op op) {
  const hn::ScalableTag<T> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const V aOne = hn::Set(d, a[0]), bOne = hn::Set(d, b[0]);
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const V va = kAStep ? hn::LoadU(d, a + i) : aOne;
    const V vb = kBStep ? hn::LoadU(d, b + i) : bOne;
    hn::StoreU(op(d, va, vb), d, y + i);
  }
  if (i == n) return;
  HWY_ALIGN T aTail[hn::MaxLanes(d)];
  HWY_ALIGN T bTail[hn::MaxLanes(d)];
  for (int64_t j = 0; j < lanes; ++j) {
    const int64_t at = i + j < n ? i + j : i;
    aTail[j] = a[kAStep ? at : 0];
    bTail[j] = b[kBStep ? at : 0];
  }
  hn::Store(op(d, hn::Load(d, aTail), hn::Load(d, bTail)), d, aTail);
  for (int64_t j = i; j < n; ++j) y[j] = aTail[j - i];
}

template <class T, class Op>
HWY_INLINE void mapBinary(T* y, const T* a, int aStep, const T* b, int bStep, int64_t n, Op op) {
  if (n <= 0) return;
  if (aStep && bStep) return mapBinarySteps<true, true>(y, a, b, n, op);
  if (aStep) return mapBinarySteps<true, false>(y, a, b, n, op);
  if (bStep) return mapBinarySteps<false, true>(y, a, b, n, op);
  mapBinarySteps<false, false>(y, a, b, n, op);
}

template <class T>
void floatUnary(UnaryOp op, T* y, const T* x, int64_t n) {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  switch (op) {
    case UnaryOp::Neg:
      return mapUnary(y, x, n, [](D, V v) HWY_ATTR { return hn::Neg(v); });
    case UnaryOp::Abs:
      return mapUnary(y, x, n, [](D, V v) HWY_ATTR { return hn::Abs(v); });
    case UnaryOp::Sign:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return signOf(d, v); });
    case UnaryOp::Square:
      return mapUnary(y, x, n, [](D, V v) HWY_ATTR { return hn::Mul(v, v); });
    case UnaryOp::Sqrt:
      return mapUnary(y, x, n, [](D, V v) HWY_ATTR { return hn::Sqrt(v); });
    case UnaryOp::Rsqrt:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return hn::Div(constant(d, 1), hn::Sqrt(v)); });
    case UnaryOp::Reciprocal:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return hn::Div(constant(d, 1), v); });
    case UnaryOp::Exp:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return exp(d, v); });
    case UnaryOp::Expm1:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return expm1(d, v); });
    case UnaryOp::Log:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return log(d, v); });
    case UnaryOp::Log1p:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return log1p(d, v); });
    case UnaryOp::Sin:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return sin(d, v); });
    case UnaryOp::Cos:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return cos(d, v); });
    case UnaryOp::Tanh:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return tanh(d, v); });
    case UnaryOp::Sigmoid:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return sigmoid(d, v); });
    case UnaryOp::Floor:
      return mapUnary(y, x, n, [](D, V v) HWY_ATTR { return hn::Floor(v); });
    case UnaryOp::LogicalNot:
      return;  // bool only: logicalNotRun
  }
}

void unaryFloat(UnaryOp op, float* y, const float* x, int64_t n) { floatUnary(op, y, x, n); }
void unaryDouble(UnaryOp op, double* y, const double* x, int64_t n) { floatUnary(op, y, x, n); }

void unaryInt(UnaryOp op, int32_t* y, const int32_t* x, int64_t n) {
  using D = hn::ScalableTag<int32_t>;
  using V = hn::Vec<D>;
  switch (op) {
    case UnaryOp::Neg:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return hn::Sub(hn::Zero(d), v); });
    case UnaryOp::Abs:
      return mapUnary(y, x, n, [](D, V v) HWY_ATTR { return hn::Abs(v); });
    case UnaryOp::Sign:
      return mapUnary(y, x, n, [](D d, V v) HWY_ATTR { return signOf(d, v); });
    default:
      return mapUnary(y, x, n, [](D, V v) HWY_ATTR { return hn::Mul(v, v); });
  }
}

void logicalNot(uint8_t* HWY_RESTRICT y, const uint8_t* HWY_RESTRICT x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] == 0;
}

template <class T>
void powRun(T* y, const T* a, int aStep, const T* b, int bStep, int64_t n) {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  if (bStep == 0 && aStep == 1) {  // exponents for which std::pow is exactly or nearly a product
    if (b[0] == 2) return mapUnary(y, a, n, [](D, V v) HWY_ATTR { return hn::Mul(v, v); });
    if (b[0] == 3) return mapUnary(y, a, n, [](D, V v) HWY_ATTR { return hn::Mul(hn::Mul(v, v), v); });
    if (b[0] == -1) return mapUnary(y, a, n, [](D d, V v) HWY_ATTR { return hn::Div(constant(d, 1), v); });
  }
  for (int64_t i = 0; i < n; ++i) y[i] = std::pow(a[i * aStep], b[i * bStep]);
}

template <class T>
void anyBinary(BinaryOp op, T* y, const T* a, int aStep, const T* b, int bStep, int64_t n) {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  switch (op) {
    case BinaryOp::Add:
      return mapBinary(y, a, aStep, b, bStep, n, [](D, V u, V v) HWY_ATTR { return hn::Add(u, v); });
    case BinaryOp::Sub:
      return mapBinary(y, a, aStep, b, bStep, n, [](D, V u, V v) HWY_ATTR { return hn::Sub(u, v); });
    case BinaryOp::Mul:
      return mapBinary(y, a, aStep, b, bStep, n, [](D, V u, V v) HWY_ATTR { return hn::Mul(u, v); });
    case BinaryOp::Maximum:
      return mapBinary(y, a, aStep, b, bStep, n, [](D d, V u, V v) HWY_ATTR { return maximum(d, u, v); });
    case BinaryOp::Minimum:
      return mapBinary(y, a, aStep, b, bStep, n, [](D d, V u, V v) HWY_ATTR { return minimum(d, u, v); });
    case BinaryOp::Div:
      if constexpr (std::is_floating_point_v<T>) {
        mapBinary(y, a, aStep, b, bStep, n, [](D, V u, V v) HWY_ATTR { return hn::Div(u, v); });
      }
      return;
    case BinaryOp::Pow:
      if constexpr (std::is_floating_point_v<T>) powRun(y, a, aStep, b, bStep, n);
      return;
  }
}

void binaryFloat(BinaryOp op, float* y, const float* a, int aStep, const float* b, int bStep, int64_t n) {
  anyBinary(op, y, a, aStep, b, bStep, n);
}
void binaryDouble(BinaryOp op, double* y, const double* a, int aStep, const double* b, int bStep, int64_t n) {
  anyBinary(op, y, a, aStep, b, bStep, n);
}
void binaryInt(BinaryOp op, int32_t* y, const int32_t* a, int aStep, const int32_t* b, int bStep, int64_t n) {
  anyBinary(op, y, a, aStep, b, bStep, n);
}

// Plain loops: the compiler turns compare-and-narrow and selects into vector code for the level it is compiled for.
template <class T, class Op>
HWY_INLINE void mapCompare(uint8_t* HWY_RESTRICT y, const T* HWY_RESTRICT a, int aStep, const T* HWY_RESTRICT b,
                           int bStep, int64_t n, Op op) {
  if (n <= 0) return;
  const T aOne = a[0], bOne = b[0];
  if (aStep && bStep) {
    for (int64_t i = 0; i < n; ++i) y[i] = op(a[i], b[i]);
  } else if (aStep) {
    for (int64_t i = 0; i < n; ++i) y[i] = op(a[i], bOne);
  } else if (bStep) {
    for (int64_t i = 0; i < n; ++i) y[i] = op(aOne, b[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = op(aOne, bOne);
  }
}

template <class T>
void anyCompare(CompareOp op, uint8_t* y, const T* a, int aStep, const T* b, int bStep, int64_t n) {
  switch (op) {
    case CompareOp::Equal:
      return mapCompare(y, a, aStep, b, bStep, n, [](T u, T v) HWY_ATTR { return u == v; });
    case CompareOp::NotEqual:
      return mapCompare(y, a, aStep, b, bStep, n, [](T u, T v) HWY_ATTR { return u != v; });
    case CompareOp::Less:
      return mapCompare(y, a, aStep, b, bStep, n, [](T u, T v) HWY_ATTR { return u < v; });
    case CompareOp::LessEqual:
      return mapCompare(y, a, aStep, b, bStep, n, [](T u, T v) HWY_ATTR { return u <= v; });
    case CompareOp::Greater:
      return mapCompare(y, a, aStep, b, bStep, n, [](T u, T v) HWY_ATTR { return u > v; });
    case CompareOp::GreaterEqual:
      return mapCompare(y, a, aStep, b, bStep, n, [](T u, T v) HWY_ATTR { return u >= v; });
  }
}

void compareFloat(CompareOp op, uint8_t* y, const float* a, int aStep, const float* b, int bStep, int64_t n) {
  anyCompare(op, y, a, aStep, b, bStep, n);
}
void compareDouble(CompareOp op, uint8_t* y, const double* a, int aStep, const double* b, int bStep, int64_t n) {
  anyCompare(op, y, a, aStep, b, bStep, n);
}
void compareInt(CompareOp op, uint8_t* y, const int32_t* a, int aStep, const int32_t* b, int bStep, int64_t n) {
  anyCompare(op, y, a, aStep, b, bStep, n);
}
void compareBool(CompareOp op, uint8_t* y, const uint8_t* a, int aStep, const uint8_t* b, int bStep, int64_t n) {
  anyCompare(op, y, a, aStep, b, bStep, n);
}

template <class T>
HWY_INLINE void anyWhere(T* HWY_RESTRICT y, const uint8_t* HWY_RESTRICT condition, int step, const T* HWY_RESTRICT a,
                         int aStep, const T* HWY_RESTRICT b, int bStep, int64_t n) {
  if (n <= 0) return;
  const T aOne = a[0], bOne = b[0];
  if (!step) {
    const T* from = condition[0] ? a : b;
    const int fromStep = condition[0] ? aStep : bStep;
    for (int64_t i = 0; i < n; ++i) y[i] = from[i * fromStep];
  } else if (aStep && bStep) {
    for (int64_t i = 0; i < n; ++i) {
      const T u = a[i], v = b[i];
      y[i] = condition[i] ? u : v;
    }
  } else if (aStep) {
    for (int64_t i = 0; i < n; ++i) {
      const T u = a[i];
      y[i] = condition[i] ? u : bOne;
    }
  } else if (bStep) {
    for (int64_t i = 0; i < n; ++i) {
      const T v = b[i];
      y[i] = condition[i] ? aOne : v;
    }
  } else {
    for (int64_t i = 0; i < n; ++i) y[i] = condition[i] ? aOne : bOne;
  }
}

void where8(uint8_t* y, const uint8_t* c, int step, const uint8_t* a, int aStep, const uint8_t* b, int bStep,
            int64_t n) {
  anyWhere(y, c, step, a, aStep, b, bStep, n);
}
void where16(uint16_t* y, const uint8_t* c, int step, const uint16_t* a, int aStep, const uint16_t* b, int bStep,
             int64_t n) {
  anyWhere(y, c, step, a, aStep, b, bStep, n);
}
void where32(uint32_t* y, const uint8_t* c, int step, const uint32_t* a, int aStep, const uint32_t* b, int bStep,
             int64_t n) {
  anyWhere(y, c, step, a, aStep, b, bStep, n);
}
void where64(uint64_t* y, const uint8_t* c, int step, const uint64_t* a, int aStep, const uint64_t* b, int bStep,
             int64_t n) {
  anyWhere(y, c, step, a, aStep, b, bStep, n);
}

template <class T>
HWY_INLINE void anyClamp(T* y, const T* x, T low, T high, int64_t n) {
  using D = hn::ScalableTag<T>;
  using V = hn::Vec<D>;
  const D d;
  const V vLow = hn::Set(d, low), vHigh = hn::Set(d, high);
  mapUnary(y, x, n, [vLow, vHigh](D d, V v) HWY_ATTR { return clampTo(d, v, vLow, vHigh); });
}
void clampFloat(float* y, const float* x, float low, float high, int64_t n) { anyClamp(y, x, low, high, n); }
void clampDouble(double* y, const double* x, double low, double high, int64_t n) { anyClamp(y, x, low, high, n); }
void clampInt(int32_t* y, const int32_t* x, int32_t low, int32_t high, int64_t n) { anyClamp(y, x, low, high, n); }

}  // namespace
}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(unaryFloat);
HWY_EXPORT(unaryDouble);
HWY_EXPORT(unaryInt);
HWY_EXPORT(logicalNot);
HWY_EXPORT(binaryFloat);
HWY_EXPORT(binaryDouble);
HWY_EXPORT(binaryInt);
HWY_EXPORT(compareFloat);
HWY_EXPORT(compareDouble);
HWY_EXPORT(compareInt);
HWY_EXPORT(compareBool);
HWY_EXPORT(where8);
HWY_EXPORT(where16);
HWY_EXPORT(where32);
HWY_EXPORT(where64);
HWY_EXPORT(clampFloat);
HWY_EXPORT(clampDouble);
HWY_EXPORT(clampInt);

void unaryRun(UnaryOp op, float* y, const float* x, int64_t n) { HWY_DYNAMIC_DISPATCH(unaryFloat)(op, y, x, n); }
void unaryRun(UnaryOp op, double* y, const double* x, int64_t n) { HWY_DYNAMIC_DISPATCH(unaryDouble)(op, y, x, n); }
void unaryRun(UnaryOp op, int32_t* y, const int32_t* x, int64_t n) { HWY_DYNAMIC_DISPATCH(unaryInt)(op, y, x, n); }
void logicalNotRun(uint8_t* y, const uint8_t* x, int64_t n) { HWY_DYNAMIC_DISPATCH(logicalNot)(y, x, n); }

void binaryRun(BinaryOp op, float* y, const float* a, int aStep, const float* b, int bStep, int64_t n) {
  HWY_DYNAMIC_DISPATCH(binaryFloat)(op, y, a, aStep, b, bStep, n);
}
void binaryRun(BinaryOp op, double* y, const double* a, int aStep, const double* b, int bStep, int64_t n) {
  HWY_DYNAMIC_DISPATCH(binaryDouble)(op, y, a, aStep, b, bStep, n);
}
void binaryRun(BinaryOp op, int32_t* y, const int32_t* a, int aStep, const int32_t* b, int bStep, int64_t n) {
  HWY_DYNAMIC_DISPATCH(binaryInt)(op, y, a, aStep, b, bStep, n);
}

void compareRun(CompareOp op, uint8_t* y, const float* a, int aStep, const float* b, int bStep, int64_t n) {
  HWY_DYNAMIC_DISPATCH(compareFloat)(op, y, a, aStep, b, bStep, n);
}
void compareRun(CompareOp op, uint8_t* y, const double* a, int aStep, const double* b, int bStep, int64_t n) {
  HWY_DYNAMIC_DISPATCH(compareDouble)(op, y, a, aStep, b, bStep, n);
}
void compareRun(CompareOp op, uint8_t* y, const int32_t* a, int aStep, const int32_t* b, int bStep, int64_t n) {
  HWY_DYNAMIC_DISPATCH(compareInt)(op, y, a, aStep, b, bStep, n);
}
void compareRun(CompareOp op, uint8_t* y, const uint8_t* a, int aStep, const uint8_t* b, int bStep, int64_t n) {
  HWY_DYNAMIC_DISPATCH(compareBool)(op, y, a, aStep, b, bStep, n);
}

void whereRun(uint8_t* y, const uint8_t* c, int step, const uint8_t* a, int aStep, const uint8_t* b, int bStep,
              int64_t n) {
  HWY_DYNAMIC_DISPATCH(where8)(y, c, step, a, aStep, b, bStep, n);
}
void whereRun(uint16_t* y, const uint8_t* c, int step, const uint16_t* a, int aStep, const uint16_t* b, int bStep,
              int64_t n) {
  HWY_DYNAMIC_DISPATCH(where16)(y, c, step, a, aStep, b, bStep, n);
}
void whereRun(uint32_t* y, const uint8_t* c, int step, const uint32_t* a, int aStep, const uint32_t* b, int bStep,
              int64_t n) {
  HWY_DYNAMIC_DISPATCH(where32)(y, c, step, a, aStep, b, bStep, n);
}
void whereRun(uint64_t* y, const uint8_t* c, int step, const uint64_t* a, int aStep, const uint64_t* b, int bStep,
              int64_t n) {
  HWY_DYNAMIC_DISPATCH(where64)(y, c, step, a, aStep, b, bStep, n);
}

void clampRun(float* y, const float* x, float low, float high, int64_t n) {
  HWY_DYNAMIC_DISPATCH(clampFloat)(y, x, low, high, n);
}
void clampRun(double* y, const double* x, double low, double high, int64_t n) {
  HWY_DYNAMIC_DISPATCH(clampDouble)(y, x, low, high, n);
}
void clampRun(int32_t* y, const int32_t* x, int32_t low, int32_t high, int64_t n) {
  HWY_DYNAMIC_DISPATCH(clampInt)(y, x, low, high, n);
}

}  // namespace flowmap::cpu
#endif
