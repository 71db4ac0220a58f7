// Rows of a head, gathered into tiles: as they are, or transposed; widened from 16 bits, padded with zeros.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/dispatch.h"
#include "core/tensor.h"
#include "cpu/attention_tiles.h"
#include "cpu/convert.h"

namespace flowmap::cpu {

template <class C>
constexpr int64_t padded(int64_t n) {
  constexpr int64_t kUnit = kTilePad / static_cast<int64_t>(sizeof(C));
  return (n + kUnit - 1) / kUnit * kUnit;
}

// dst [rows, padded(dim)] from rows of stride `stride`.
template <class T>
void packRows(const T* src, int64_t stride, int64_t rows, int64_t dim, Compute<T>* dst) {
  using C = Compute<T>;
  const int64_t width = padded<C>(dim);
  for (int64_t i = 0; i < rows; ++i) {
    C* to = dst + i * width;
    if constexpr (std::is_same_v<T, C>)
      std::copy_n(src + i * stride, dim, to);
    else
      toFloatRun(to, src + i * stride, dim);
    std::fill(to + dim, to + width, C(0));
  }
}

// dst [dim, width], column j from row j; columns from `rows` on are zero.
template <class T>
void packTransposed(const T* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, Compute<T>* dst) {
  using C = Compute<T>;
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

// The first `dim` columns of src [rows, padded(dim)], times `factor`, into rows of stride `stride`.
template <class T>
void unpackRows(const Compute<T>* src, Compute<T> factor, int64_t rows, int64_t dim, T* dst, int64_t stride) {
  const int64_t width = padded<Compute<T>>(dim);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t p = 0; p < dim; ++p) dst[i * stride + p] = static_cast<T>(src[i * width + p] * factor);
  }
}

}  // namespace flowmap::cpu
