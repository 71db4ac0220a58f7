// The rows between the products of composed attention: softmax, and what has its mean under the softmax taken off.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/attention_product.cuh"
#include "cuda/lane_groups.cuh"

namespace flowmap::cuda::composed {

// The rows of the matrices of a launch, [heads.count · group, queries, heads.keys]; a warp has a row.
struct RowsShape {
  AttentionHeads heads;
  int64_t queries;
  bool causal;

  __host__ __device__ int64_t rows() const { return heads.count * heads.group * queries; }
  // A row sees a prefix of the keys; -1 where their number is unknown.
  __device__ __forceinline__ int64_t visible(int64_t row) const {
    const int64_t length = heads.lengthOf(row / queries / heads.group);
    if (!causal || length < 0) return length;
    return min(max(row % queries + 1 + heads.keys - queries, int64_t{0}), length);
  }
};

// Each lane of the warp reads and writes elements of its own in all of these.
template <class Body>
__device__ __forceinline__ void forOwn(int64_t begin, int64_t end, Body body) {
  for (int64_t j = begin + threadIdx.x % kWarp; j < end; j += kWarp) body(j);
}

// s becomes its softmax -> the logarithm of the sum of its exponentials, +∞ for an empty row.
template <class C>
__device__ C softmaxRow(C* s, int64_t n) {
  C top = -static_cast<C>(INFINITY), sum = 0;
  forOwn(0, n, [&](int64_t j) { top = Largest<C>()(s[j], top); });
  top = joinWarp(top, Largest<C>());
  forOwn(0, n, [&](int64_t j) {
    s[j] = ::exp(s[j] - top);
    sum += s[j];
  });
  sum = joinWarp(sum, Plus<C>());
  forOwn(0, n, [&](int64_t j) { s[j] /= sum; });
  return n == 0 ? static_cast<C>(INFINITY) : top + ::log(sum);
}

// Takes the mean of x under the weights p from x -> that mean. What the first pass leaves of it, a rounding error of
// the mean, can be as large as the differences that matter, and is taken off once more.
template <class C>
__device__ C centerRow(C* x, const C* p, int64_t n) {
  C mean = 0;
  for (int pass = 0; pass < 2; ++pass) {
    C rest = 0;
    forOwn(0, n, [&](int64_t j) { rest += p[j] * x[j]; });
    rest = joinWarp(rest, Plus<C>());
    forOwn(0, n, [&](int64_t j) { x[j] -= rest; });
    mean += rest;
  }
  return mean;
}

// In: s = S, and t = T or null. Out: s = P, t = tP, and a value each for every row.
template <class C>
__global__ void __launch_bounds__(kThreads)
    forwardRowsKernel(C* s, C* t, C* lse, C* mu, const __grid_constant__ RowsShape shape) {
  const int64_t keys = shape.heads.keys, rows = shape.rows();
  for (int64_t row = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp; row < rows;
       row += int64_t{gridDim.x} * kThreads / kWarp) {
    const int64_t visible = shape.visible(row), n = max(visible, int64_t{0});
    C* p = s + row * keys;
    const C logarithm = softmaxRow(p, n);
    C mean = 0;
    if (t != nullptr) {
      C* x = t + row * keys;
      mean = centerRow(x, p, n);
      forOwn(0, n, [&](int64_t j) { x[j] *= p[j]; });
      forOwn(n, keys, [&](int64_t j) { x[j] = 0; });
    }
    forOwn(n, keys, [&](int64_t j) { p[j] = 0; });
    if (threadIdx.x % kWarp != 0) continue;
    const C unknown = static_cast<C>(NAN);
    lse[row] = visible < 0 ? unknown : logarithm;
    if (mu != nullptr) mu[row] = visible < 0 ? unknown : mean;
  }
}

// In: s = S, t = T or null, d = H Vᵀ or null, r = G Vᵀ + H tVᵀ. Out, with x̂ for x less its mean under the row's
// weights: s = P, t = tP = P∘T̂, d = gT = P∘d̂, r = gS = P∘û, where u = r + T̂∘d̂.
template <class C>
__global__ void __launch_bounds__(kThreads)
    backwardRowsKernel(C* s, C* t, C* d, C* r, const __grid_constant__ RowsShape shape) {
  const int64_t keys = shape.heads.keys, rows = shape.rows();
  for (int64_t row = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / kWarp; row < rows;
       row += int64_t{gridDim.x} * kThreads / kWarp) {
    const int64_t n = max(shape.visible(row), int64_t{0}), at = row * keys;
    C* p = s + at;
    softmaxRow(p, n);
    if (t != nullptr) centerRow(t + at, p, n);
    if (d != nullptr) centerRow(d + at, p, n);
    if (t != nullptr && d != nullptr) forOwn(at, at + n, [&](int64_t j) { r[j] += t[j] * d[j]; });
    centerRow(r + at, p, n);
    for (C* x : {t, d, r}) {
      if (x == nullptr) continue;
      forOwn(0, n, [&](int64_t j) { x[at + j] *= p[j]; });
      forOwn(n, keys, [&](int64_t j) { x[at + j] = 0; });
    }
    forOwn(n, keys, [&](int64_t j) { p[j] = 0; });
  }
}

}  // namespace flowmap::cuda::composed
