// Highway's vocabulary on one value: what the formulas of core/ (elementwise_formulas-inl.h, activation_formulas-inl.h)
// need to compute in a CUDA thread. int32 wraps.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

namespace flowmap::cuda {

template <class T>
struct Lane {};

namespace hn {

template <class D>
struct ElementOf;
template <class T>
struct ElementOf<Lane<T>> {
  using type = T;
};
template <class D>
using TFromD = typename ElementOf<D>::type;

template <class T>
__device__ __forceinline__ T Set(Lane<T>, double value) {
  return static_cast<T>(value);
}
template <class T>
__device__ __forceinline__ T Zero(Lane<T>) {
  return T(0);
}
template <class T>
__device__ __forceinline__ bool IsNaN(T x) {
  return x != x;
}
template <class T>
__device__ __forceinline__ bool Eq(T a, T b) {
  return a == b;
}
template <class T>
__device__ __forceinline__ bool Lt(T a, T b) {
  return a < b;
}
template <class T>
__device__ __forceinline__ bool Gt(T a, T b) {
  return a > b;
}
__device__ __forceinline__ bool Or(bool a, bool b) { return a || b; }
template <class T>
__device__ __forceinline__ T IfThenElse(bool mask, T yes, T no) {
  return mask ? yes : no;
}
template <class T>
__device__ __forceinline__ T IfThenElseZero(bool mask, T yes) {
  return mask ? yes : T(0);
}

template <class T>
__device__ __forceinline__ T Add(T a, T b) {
  if constexpr (std::is_same_v<T, int32_t>)
    return static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
  else
    return a + b;
}
template <class T>
__device__ __forceinline__ T Sub(T a, T b) {
  if constexpr (std::is_same_v<T, int32_t>)
    return static_cast<T>(static_cast<uint32_t>(a) - static_cast<uint32_t>(b));
  else
    return a - b;
}
template <class T>
__device__ __forceinline__ T Mul(T a, T b) {
  if constexpr (std::is_same_v<T, int32_t>)
    return static_cast<T>(static_cast<uint32_t>(a) * static_cast<uint32_t>(b));
  else
    return a * b;
}
template <class T>
__device__ __forceinline__ T Div(T a, T b) {
  return a / b;
}
template <class T>
__device__ __forceinline__ T MulAdd(T a, T b, T c) {
  return ::fma(a, b, c);
}
template <class T>
__device__ __forceinline__ T NegMulAdd(T a, T b, T c) {
  return ::fma(-a, b, c);
}
template <class T>
__device__ __forceinline__ T Neg(T a) {
  if constexpr (std::is_same_v<T, int32_t>)
    return Sub(T(0), a);
  else
    return -a;
}
template <class T>
__device__ __forceinline__ T Abs(T a) {
  if constexpr (std::is_same_v<T, int32_t>)
    return a < 0 ? Neg(a) : a;
  else
    return fabs(a);
}
template <class T>
__device__ __forceinline__ T Max(T a, T b) {
  return a > b ? a : b;
}
template <class T>
__device__ __forceinline__ T Min(T a, T b) {
  return a < b ? a : b;
}

}  // namespace hn

template <class T>
__device__ __forceinline__ T constant(Lane<T>, double value) {
  return static_cast<T>(value);
}

template <class T>
__device__ __forceinline__ T exp(Lane<T>, T x) {
  return ::exp(x);
}

}  // namespace flowmap::cuda

#include "core/elementwise_formulas-inl.h"
