// The small matrix products of composed attention: one kernel for all of them, told by strides which operand is
// transposed. Terms, grouped heads and runs of the inner axis are added up in a fixed order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/dispatch.h"
#include "cuda/attention_sequences.cuh"
#include "cuda/launch.cuh"

namespace flowmap::cuda::composed {

// The heads of one launch. A unit is a key head with the `group` query heads that share it; units are numbered through
// the batch, and this launch has `count` of them from `first` on.
struct AttentionHeads {
  int64_t first = 0, count = 0, keyHeads, group;
  int64_t queries, keys;
  const int32_t* keyLengths;  // [batch]; null: all keys
  PackedSequences packed;

  explicit AttentionHeads(const AttentionCall& call)
      : keyHeads(call.geometry.keyHeads),
        group(keyHeads == 0 ? 0 : call.geometry.queryHeads / keyHeads),
        queries(call.geometry.queries),
        keys(call.geometry.keys),
        keyLengths(call.in.keyLengths.data<const int32_t>()),
        packed(call) {}

  __device__ __forceinline__ int64_t batchOf(int64_t unit) const { return (first + unit) / keyHeads; }
  __device__ __forceinline__ int64_t keyHeadOf(int64_t unit) const { return (first + unit) % keyHeads; }
  // How many keys count; -1 where the length given is none.
  __device__ __forceinline__ int64_t lengthOf(int64_t unit) const {
    if (!packed.absent() && *packed.sound == 0) return -1;
    if (keyLengths == nullptr) return keys;
    const int32_t length = keyLengths[batchOf(unit)];
    return length < 0 || length > keys ? -1 : length;
  }
};

// Where the matrix of a query head (`member` of its unit) begins and how far apart its elements are.
struct HeadMatrix {
  int64_t unit = 0, batch = 0, keyHead = 0, member = 0;
  int64_t row = 0, column = 1;

  HeadMatrix transposed() const {
    HeadMatrix other = *this;
    std::swap(other.row, other.column);
    return other;
  }
  __device__ __forceinline__ int64_t begin(const AttentionHeads& heads, int64_t u, int64_t m) const {
    return u * unit + heads.batchOf(u) * batch + heads.keyHeadOf(u) * keyHead + m * member;
  }
};

template <class T>
struct HeadOperand {
  T* data;
  HeadMatrix at;
};

template <class A, class B>
struct ProductTerm {
  HeadOperand<const A> a;
  HeadOperand<const B> b;
};

// What a product's rows are, and what its columns or its inner axis. Sums over keys end where they do not count, and
// rows of such keys are zero.
enum class Axes { QueriesKeys, QueriesInnerKeys, KeysInnerQueries };

// out [m, n] = factor · Σ terms, for every query head, or for every unit with its query heads added up (`joined`).
template <class A, class B, class Out>
struct HeadProduct {
  AttentionHeads heads;
  int64_t m, n, k;
  Axes axes;
  bool joined;
  Compute<B> factor;
  HeadOperand<Out> out;
  int terms;
  ProductTerm<A, B> term[2];
};

constexpr int kProductTile = 32;   // rows and columns of a block
constexpr int kProductDepth = 16;  // of the inner axis at a time
constexpr int kProductSide = 8;    // threads along either
constexpr int kProductThreads = kProductSide * kProductSide;
constexpr int kProductEach = kProductTile / kProductSide;  // rows and columns of a thread
template <class C>
constexpr int kProductBlocks = sizeof(C) == 8 ? 4 : 8;  // a multiprocessor's: as many as leave registers for all sums

template <class C>
using ProductTile = C[kProductDepth][kProductTile + 1];  // one more against bank conflicts

// A piece of an operand, `rows` by `deeps` of it, and zeros beyond. Neighbouring threads read neighbours in memory.
template <class C, class T>
__device__ __forceinline__ void loadTile(ProductTile<C>& tile, const T* x, int64_t rowStride, int64_t deepStride,
                                         int64_t rows, int64_t deeps) {
  const bool deepFirst = deepStride == 1;
  for (int i = threadIdx.x; i < kProductTile * kProductDepth; i += kProductThreads) {
    const int row = deepFirst ? i / kProductDepth : i % kProductTile;
    const int deep = deepFirst ? i % kProductDepth : i / kProductTile;
    C value = 0;
    if (row < rows && deep < deeps) value = static_cast<C>(x[row * rowStride + deep * deepStride]);
    tile[deep][row] = value;
  }
}

template <class A, class B, class Out>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks<Compute<B>>)
    headProductKernel(const __grid_constant__ HeadProduct<A, B, Out> p) {
  using C = Compute<B>;
  __shared__ ProductTile<C> left, right;
  const int ty = threadIdx.x / kProductSide, tx = threadIdx.x % kProductSide;
  const int64_t down = p.heads.packed.tilesOf(p.m, kProductTile), across = (p.n + kProductTile - 1) / kProductTile;
  const int64_t members = p.joined ? 1 : p.heads.group, added = p.joined ? p.heads.group : 1;
  for (int64_t block = blockIdx.x; block < p.heads.count * members * down * across; block += gridDim.x) {
    const int64_t column = block % across * kProductTile;
    const int64_t head = block / (across * down), unit = head / members, member = head % members;
    const int64_t length = p.heads.lengthOf(unit);
    int64_t row = block / across % down * kProductTile, rows = p.m;  // up to where they are the same sequence's
    int64_t inner = 0, k = p.axes == Axes::QueriesInnerKeys ? max(length, int64_t{0}) : p.k;  // from, and up to
    if (!p.heads.packed.absent() && length >= 0) {
      const PackedSequences& packed = p.heads.packed;
      const bool ofKeys = p.axes == Axes::KeysInnerQueries;
      const int32_t *own = ofKeys ? packed.keyOffsets : packed.queryOffsets,
                    *others = ofKeys ? packed.queryOffsets : packed.keyOffsets;
      int sequence;
      const int tile = packed.tileWithin(own, static_cast<int>(row / kProductTile), kProductTile, sequence);
      const Span span = PackedSequences::spanOf(own, sequence), over = PackedSequences::spanOf(others, sequence);
      row = span.first + int64_t{tile} * kProductTile, rows = span.end();
      if (p.axes != Axes::QueriesKeys)
        inner = over.first, k = over.end();
      else if (column >= over.end() || column + kProductTile <= over.first)
        continue;  // nobody looks at scores of other sequences' keys
    }
    if (row >= rows) continue;
    if (length < 0) k = inner;  // operands may not even have been made
    C total[kProductEach][kProductEach] = {};
    for (int index = 0; index < p.terms; ++index) {
      const ProductTerm<A, B>& term = p.term[index];
      for (int64_t m = member; m < member + added; ++m) {
        const A* a = term.a.data + term.a.at.begin(p.heads, unit, m) + row * term.a.at.row;
        const B* b = term.b.data + term.b.at.begin(p.heads, unit, m) + column * term.b.at.column;
        for (int64_t from = inner; from < k; from += kProductDepth) {
          __syncthreads();
          loadTile<C>(left, a + from * term.a.at.column, term.a.at.row, term.a.at.column, rows - row, k - from);
          loadTile<C>(right, b + from * term.b.at.row, term.b.at.column, term.b.at.row, p.n - column, k - from);
          __syncthreads();
          C run[kProductEach][kProductEach] = {};  // joins the rest at its end: a long sum rounds once per run
#pragma unroll
          for (int deep = 0; deep < kProductDepth; ++deep) {
            C x[kProductEach], y[kProductEach];
#pragma unroll
            for (int i = 0; i < kProductEach; ++i) x[i] = left[deep][ty + i * kProductSide];
#pragma unroll
            for (int j = 0; j < kProductEach; ++j) y[j] = right[deep][tx + j * kProductSide];
#pragma unroll
            for (int i = 0; i < kProductEach; ++i) {
#pragma unroll
              for (int j = 0; j < kProductEach; ++j) run[i][j] += x[i] * y[j];
            }
          }
#pragma unroll
          for (int i = 0; i < kProductEach; ++i) {
#pragma unroll
            for (int j = 0; j < kProductEach; ++j) total[i][j] += run[i][j];
          }
        }
      }
    }
    const C factor = length < 0 ? static_cast<C>(NAN) : p.factor;  // nothing is known about this batch row
    const int64_t counting = p.axes == Axes::KeysInnerQueries && length >= 0 ? length : p.m;
    Out* out = p.out.data + p.out.at.begin(p.heads, unit, member);
#pragma unroll
    for (int i = 0; i < kProductEach; ++i) {
      const int64_t y = row + ty + i * kProductSide;
#pragma unroll
      for (int j = 0; j < kProductEach; ++j) {
        const int64_t x = column + tx + j * kProductSide;
        if (y >= rows || x >= p.n) continue;
        out[y * p.out.at.row + x * p.out.at.column] = static_cast<Out>(y < counting ? total[i][j] * factor : C(0));
      }
    }
  }
}

template <class A, class B, class Out>
void launchProduct(const Runtime& runtime, const HeadProduct<A, B, Out>& p) {
  const int64_t down = p.heads.packed.tilesOf(p.m, kProductTile), across = (p.n + kProductTile - 1) / kProductTile;
  const int64_t blocks = p.heads.count * (p.joined ? 1 : p.heads.group) * down * across;
  if (blocks == 0) return;
  const Grid grid{dim3(static_cast<unsigned>(std::min<int64_t>(blocks, 1 << 20))), dim3(kProductThreads)};
  launchKernel(runtime, headProductKernel<A, B, Out>, grid, p);
}

}  // namespace flowmap::cuda::composed
