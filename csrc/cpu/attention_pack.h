// Rows of a head, gathered into tiles: as they are, or transposed, or in pairs; converted, padded with zeros.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/dispatch.h"
#include "core/tensor.h"
#include "cpu/attention_tiles.h"
#include "cpu/attention_tiles_bfloat16.h"
#include "cpu/convert.h"

namespace flowmap::cpu {

constexpr int64_t kMaxHeadDim = 256;

template <class C>
constexpr int64_t padded(int64_t n) {
  constexpr int64_t kUnit = kTilePad / static_cast<int64_t>(sizeof(C));
  return (n + kUnit - 1) / kUnit * kUnit;
}

template <class T, class E>
void packRun(const T* src, int64_t n, E* dst) {
  if constexpr (std::is_same_v<T, E>) {
    // Rows are short: a call for each would take longer than the copy.
    constexpr int64_t kBlock = 32 / static_cast<int64_t>(sizeof(T));
    int64_t p = 0;
    for (; p + kBlock <= n; p += kBlock) std::memcpy(dst + p, src + p, 32);
    for (; p < n; ++p) dst[p] = src[p];
  } else if constexpr (std::is_same_v<E, float>) {
    toFloatRun(dst, src, n);
  } else {
    fromFloatRun(dst, src, n);
  }
}

// dst [rows, padded(dim)] from rows of stride `stride`.
template <class T, class E>
void packRows(const T* src, int64_t stride, int64_t rows, int64_t dim, E* dst) {
  const int64_t width = padded<E>(dim);
  for (int64_t i = 0; i < rows; ++i) {
    E* to = dst + i * width;
    packRun(src + i * stride, dim, to);
    std::fill(to + dim, to + width, E(0));
  }
}

// dst [dim, width], column j from row j; columns from `rows` on are zero.
template <class T, class C>
void packTransposed(const T* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, C* dst) {
  if constexpr (std::is_same_v<T, float> && std::is_same_v<C, float>) {
    if (rows > 0) return transposeTile(src, stride, rows, dim, width, dst);
  }
  constexpr int64_t kBlock = 16;
  for (int64_t first = 0; first < width; first += kBlock) {
    const int64_t last = std::min(width, first + kBlock);
    for (int64_t p = 0; p < dim; ++p) {
      C* to = dst + p * width;
      for (int64_t j = first; j < last; ++j) {
        to[j] = j < rows ? static_cast<C>(src[j * stride + p]) : C(0);
      }
    }
  }
}

// The same in pairs, dst [⌈dim / 2⌉, width, 2].
template <class T>
void packTransposedPairs(const T* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, BFloat16* dst) {
  constexpr int64_t kBlock = 16;
  const int64_t pairs = (dim + 1) / 2, rowWidth = padded<BFloat16>(dim);
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (dim % 2 == 0) return transposePairs(src, stride, rows, pairs, width, width, dst);
  }
  BFloat16 block[kBlock * padded<BFloat16>(kMaxHeadDim)];
  for (int64_t first = 0; first < width; first += kBlock) {
    const int64_t some = std::clamp<int64_t>(rows - first, 0, kBlock);
    packRows(src + first * stride, stride, some, dim, block);
    transposePairs(block, rowWidth, some, pairs, kBlock, width, dst + 2 * first);
  }
}

// dst [⌈rows / 2⌉, width, 2]: rows two by two, side by side, width being that of sums; an odd last one has a partner of
// zeros.
template <class T>
void packRowPairs(const T* src, int64_t stride, int64_t rows, int64_t dim, BFloat16* dst) {
  const int64_t width = padded<float>(dim);
  for (int64_t i = 0; i < rows; i += 2) {
    const T* first = src + i * stride;
    pairRows(dim, first, i + 1 < rows ? first + stride : nullptr, dst + i * width);
  }
}

}  // namespace flowmap::cpu
