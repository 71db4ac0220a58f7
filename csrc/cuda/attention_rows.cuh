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
  // A row sees `count` keys from `first` on: a prefix of the keys, or of its sequence's.
  struct Visible {
    int64_t first, count;
    bool known;
  };
  __device__ __forceinline__ Visible visible(int64_t row) const {
    const int64_t length = heads.lengthOf(row / queries / heads.group);
    if (length < 0) return {0, 0, false};
    int64_t query = row % queries, all = queries, first = 0, keys = heads.keys, count = length;
    if (!heads.packed.absent()) {
      const PackedSequences& packed = heads.packed;
      const int sequence = packed.sequenceOf(packed.queryOffsets, static_cast<int>(query));
      const Span own = PackedSequences::spanOf(packed.queryOffsets, sequence);
      const Span others = PackedSequences::spanOf(packed.keyOffsets, sequence);
      query -= own.first, all = own.count, first = others.first, keys = count = others.count;
    }
    if (causal) count = min(max(query + 1 + keys - all, int64_t{0}), count);
    return {first, count, true};
  }
};

// Each lane of the warp reads and writes elements of its own in all of these.
template <class Body>
__device__ __forceinline__ void forOwn(int64_t begin, int64_t end, Body body) {
  for (int64_t j = begin + threadIdx.x % kWarp; j < end; j += kWarp) body(j);
}

// The keys of a row that it does not see, counted from the first that it sees.
template <class Body>
__device__ __forceinline__ void forOthers(const RowsShape::Visible& visible, int64_t keys, const Body& body) {
  forOwn(-visible.first, 0, body);
  forOwn(visible.count, keys - visible.first, body);
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
    const RowsShape::Visible visible = shape.visible(row);
    const int64_t n = visible.count, at = row * keys + visible.first;
    C* p = s + at;
    const C logarithm = softmaxRow(p, n);
    C mean = 0;
    if (t != nullptr) {
      C* x = t + at;
      mean = centerRow(x, p, n);
      forOwn(0, n, [&](int64_t j) { x[j] *= p[j]; });
      forOthers(visible, keys, [&](int64_t j) { x[j] = 0; });
    }
    forOthers(visible, keys, [&](int64_t j) { p[j] = 0; });
    if (threadIdx.x % kWarp != 0) continue;
    const C unknown = static_cast<C>(NAN);
    lse[row] = visible.known ? logarithm : unknown;
    if (mu != nullptr) mu[row] = visible.known ? mean : unknown;
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
    const RowsShape::Visible visible = shape.visible(row);
    const int64_t n = visible.count, at = row * keys + visible.first;
    C* p = s + at;
    softmaxRow(p, n);
    if (t != nullptr) centerRow(t + at, p, n);
    if (d != nullptr) centerRow(d + at, p, n);
    if (t != nullptr && d != nullptr) forOwn(at, at + n, [&](int64_t j) { r[j] += t[j] * d[j]; });
    centerRow(r + at, p, n);
    for (C* x : {t, d, r}) {
      if (x == nullptr) continue;
      forOwn(0, n, [&](int64_t j) { x[at + j] *= p[j]; });
      forOthers(visible, keys, [&](int64_t j) { x[at + j] = 0; });
    }
    forOthers(visible, keys, [&](int64_t j) { p[j] = 0; });
  }
}

}  // namespace flowmap::cuda::composed
