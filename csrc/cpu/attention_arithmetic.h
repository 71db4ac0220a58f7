// The two arithmetics that the walks over tiles are written in. WideTiles multiplies in the type that sums are kept in
// (16-bit data are widened first); BFloat16Tiles multiplies bfloat16 two terms at a time: what it packs is rounded
// once, and weights are rounded before they meet values. Both: left operands are rows, right operands lie as products
// want.
#pragma once

#include <cstdint>

#include "cpu/attention_norm.h"
#include "cpu/attention_pack.h"
#include "cpu/attention_tiles.h"
#include "cpu/attention_tiles_bfloat16.h"

namespace flowmap::cpu {

template <class T>
struct WideTiles {
  using C = Compute<T>;
  using E = C;  // of operands of products
  static constexpr bool kRounded = false;
  static constexpr int64_t kForwardQueries = 96, kForwardKeys = 64;  // multiples of every micro-kernel's height
  static constexpr int64_t kBackwardQueries = 96, kBackwardKeys = 64;
  static constexpr int64_t kRun = 32;  // terms of O summed before they join the rest

  // Rows that `packTransposed` gives for `dim` columns.
  static int64_t depth(int64_t dim) { return dim; }

  template <class S>
  static void packTransposed(const S* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, E* dst) {
    cpu::packTransposed(src, stride, rows, dim, width, dst);
  }
  // dst [rows, width], as a right operand with a term per row.
  template <class S>
  static void packNatural(const S* src, int64_t stride, int64_t rows, int64_t dim, E* dst) {
    packRows(src, stride, rows, dim, dst);
  }
  static void load(const HeadNorm<T>& norm, const T* x, const T* tx, int64_t stride, int64_t rows, int64_t, E* y, E* ty,
                   C*) {
    norm.load(x, tx, stride, rows, y, ty);
  }

  struct Left {
    const E* data;
    int64_t row, next;
  };
  // [rows, width] as it is, or its transpose.
  static Left alongRows(const E* a, int64_t width) { return {a, width, 1}; }
  static Left alongColumns(const E* a, int64_t width) { return {a, 1, width}; }
  // c [m, n] = a b with k terms, or +=.
  static void product(int64_t m, int64_t n, int64_t k, const Left& a, const E* b, C* c, bool accumulate) {
    tileProduct(TileProduct<C>{m, n, k, a.data, a.row, a.next, b, n, c, n, accumulate});
  }

  static void outputSums(const OutputSums<C, E, T>& t) {
    if constexpr (std::is_same_v<T, C>) {
      cpu::outputSums(t);
    } else {
      C o[kMaxHeadDim], to[kMaxHeadDim];
      for (int64_t i = 0; i < t.rows; ++i) {
        packRun(t.o + i * t.stride, t.dim, o);
        if (t.to) packRun(t.to + i * t.stride, t.dim, to);
        const E *g = t.g ? t.g + i * t.left : nullptr, *h = t.h ? t.h + i * t.left : nullptr;
        cpu::outputSums(OutputSums<C>{1, t.dim, g, h, t.left, o, t.to ? to : nullptr, t.stride, t.mean, t.tangentMean,
                                      t.a + i, t.delta + i});
      }
    }
  }

  static void roundMean(C*, int64_t) {}
  // dst [n] = factor · src
  static void unpackRow(const C* src, C factor, int64_t n, T* dst) {
    for (int64_t p = 0; p < n; ++p) dst[p] = static_cast<T>(src[p] * factor);
  }

  static void softmax(const SoftmaxTile<C>& tile, SoftmaxState<C>& state) { softmaxTile(tile, state); }
};

struct BFloat16Tiles {
  using C = float;
  using E = BFloat16;
  static constexpr bool kRounded = true;
  static constexpr int64_t kForwardQueries = 96, kForwardKeys = 128;
  static constexpr int64_t kBackwardQueries = 96, kBackwardKeys = 128;
  static constexpr int64_t kRun = kForwardKeys;

  static int64_t depth(int64_t dim) { return (dim + 1) / 2 * 2; }

  template <class S>
  static void packTransposed(const S* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, E* dst) {
    packTransposedPairs(src, stride, rows, dim, width, dst);
  }
  template <class S>
  static void packNatural(const S* src, int64_t stride, int64_t rows, int64_t dim, E* dst) {
    packRowPairs(src, stride, rows, dim, dst);
  }
  // What is normalised is so in float32, in `scratch` for 2 · rows rows.
  static void load(const HeadNorm<BFloat16>& norm, const BFloat16* x, const BFloat16* tx, int64_t stride, int64_t rows,
                   int64_t dim, E* y, E* ty, C* scratch) {
    if (norm.isPlain()) {
      packRows(x, stride, rows, dim, y);
      if (tx) packRows(tx, stride, rows, dim, ty);
      return;
    }
    const int64_t width = padded<C>(dim);
    norm.load(x, tx, stride, rows, scratch, scratch + rows * width);
    packRows(scratch, width, rows, dim, y);
    if (tx) packRows(scratch + rows * width, width, rows, dim, ty);
  }

  struct Left {
    const E* data;
    int64_t row, next;
  };
  static Left alongRows(const E* a, int64_t width) { return {a, width, 2}; }
  // Of rows in pairs, [⌈rows / 2⌉, width, 2].
  static Left alongColumns(const E* a, int64_t width) { return {a, 2, 2 * width}; }
  static void product(int64_t m, int64_t n, int64_t k, const Left& a, const E* b, C* c, bool accumulate) {
    tileProduct(PairProduct{m, n, k, a.data, a.row, a.next, b, c, accumulate});
  }

  static void outputSums(const OutputSums<C, E, BFloat16>& t) {
    for (int64_t i = 0; i < t.rows; ++i) {
      const BFloat16* o = t.o + i * t.stride;
      const int64_t at = i * t.left;
      t.a[i] = t.h ? dotDifference(t.dim, t.h + at, o, t.mean) : 0;
      t.delta[i] = t.g ? dotDifference(t.dim, t.g + at, o, t.mean) : 0;
      if (t.h && t.to) t.delta[i] += dotDifference(t.dim, t.h + at, t.to + i * t.stride, t.tangentMean);
    }
  }

  // Any constant serves as well as the mean, and numbers less one of as few digits that is close to them are exact.
  static void roundMean(C* mean, int64_t dim) {
    for (int64_t p = 0; p < dim; ++p) mean[p] = static_cast<C>(BFloat16(mean[p]));
  }
  static void unpackRow(const C* src, C factor, int64_t n, BFloat16* dst) { roundRow(n, factor, src, dst); }

  static void softmax(const SoftmaxTile<C>& tile, SoftmaxState<C>& state) { softmaxFollowingTile(tile, state); }
};

// What is packed of a head, and summed for it, that can stay in a second-level cache.
constexpr int64_t kKeptBytes = 512 << 10;

// How many of C hold n of E, whole cache lines.
template <class C, class E>
constexpr int64_t roomFor(int64_t n) {
  return padded<C>((n * static_cast<int64_t>(sizeof(E)) + static_cast<int64_t>(sizeof(C)) - 1) /
                   static_cast<int64_t>(sizeof(C)));
}

// Calls f with the arithmetic that data of type T get on this processor.
template <class T, class F>
void withTiles(F f) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (hasBFloat16Tiles()) return f(BFloat16Tiles());
  }
  f(WideTiles<T>());
}

}  // namespace flowmap::cpu
