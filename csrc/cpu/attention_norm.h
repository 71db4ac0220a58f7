// Queries and keys on their way into tiles and their gradients on the way out: QKNorm, head by head, and the means of
// keys. What is normalised exists in tiles alone.
#pragma once

#include <cmath>
#include <vector>

#include "core/attention_args.h"
#include "cpu/attention_pack.h"
#include "cpu/norm_rows.h"

namespace flowmap::cpu {

template <class T>
class HeadNorm {
  using C = Compute<T>;

 public:
  HeadNorm(const AttentionGeometry& g, const Tensor& weight)
      : dim_(g.dim), width_(padded<C>(g.dim)), eps_(static_cast<C>(g.eps)), normalize_(g.normalize) {
    if (!normalize_) return;
    zeros_.resize(static_cast<size_t>(dim_));
    gain_.assign(static_cast<size_t>(dim_), C(1));
    for (int64_t p = 0; weight && p < dim_; ++p) gain_[p] = static_cast<C>(weight.data<T>()[p]);
  }

  bool isPlain() const { return !normalize_; }

  // y, and ty unless tx is null: rows of x as attention takes them, and their tangents, both [rows, padded(dim)].
  void load(const T* x, const T* tx, int64_t stride, int64_t rows, C* y, C* ty) const {
    if (!normalize_) {
      packRows(x, stride, rows, dim_, y);
      if (tx) packRows(tx, stride, rows, dim_, ty);
      return;
    }
    C wideX[kMaxHeadDim], wideTx[kMaxHeadDim];
    for (int64_t i = 0; i < rows; ++i) {
      const NormRow<C> row = at(x + i * stride, tx ? tx + i * stride : nullptr, wideX, wideTx);
      C *to = y + i * width_, *tangentTo = tx ? ty + i * width_ : nullptr;
      normForwardRow(row, to, tangentTo);
      std::fill(to + dim_, to + width_, C(0));
      if (tx) std::fill(tangentTo + dim_, tangentTo + width_, C(0));
    }
  }

  // In place, cotangents of what `load` gives, [rows, padded(dim)] -> those of x and tx; their gradient of the weight
  // is added to `weight` unless null.
  void pullBack(const T* x, const T* tx, int64_t stride, int64_t rows, C* g, C* h, C* weight) const {
    if (!normalize_) return;
    C wideX[kMaxHeadDim], wideTx[kMaxHeadDim], gx[kMaxHeadDim], gtx[kMaxHeadDim];
    C sum[kMaxHeadDim];  // of these rows, before they join the rest
    if (weight) std::fill_n(sum, dim_, C(0));
    for (int64_t i = 0; i < rows; ++i) {
      const NormRow<C> row = at(x + i * stride, tx ? tx + i * stride : nullptr, wideX, wideTx);
      C *ofX = g + i * width_, *ofTx = h + i * width_;
      normBackwardRow(row, {ofX, ofTx, gx, gtx, weight ? sum : nullptr, nullptr, nullptr, nullptr});
      std::copy_n(gx, dim_, ofX);
      std::copy_n(gtx, dim_, ofTx);
    }
    for (int64_t p = 0; weight && p < dim_; ++p) weight[p] += sum[p];
  }

 private:
  NormRow<C> at(const T* x, const T* tx, C* wideX, C* wideTx) const {
    const C *primal, *tangent = zeros_.data();
    if constexpr (std::is_same_v<T, C>) {
      primal = x;
      if (tx) tangent = tx;
    } else {
      toFloatRun(wideX, x, dim_);
      primal = wideX;
      if (tx) toFloatRun(wideTx, tx, dim_), tangent = wideTx;
    }
    return {dim_, eps_, C(0), primal, tangent, gain_.data(), zeros_.data(), zeros_.data(), zeros_.data(), true, false};
  }

  const int64_t dim_, width_;
  const C eps_;
  const bool normalize_;
  std::vector<C> gain_, zeros_;
};

constexpr int64_t kMeanRows = 64;  // of keys summed before they join the rest

// The means over the first `count` rows of a head's keys and, unless null, of their tangents, as `load` gives them; a
// key that is not finite spoils what sees it alone: zeros then. `rows` has room for 2 · kMeanRows rows.
template <class T>
void keyMeans(const HeadNorm<T>& norm, const T* k, const T* tk, int64_t stride, int64_t count, int64_t dim,
              Compute<T>* mean, Compute<T>* tangentMean, Compute<T>* rows) {
  using C = Compute<T>;
  const int64_t width = padded<C>(dim);
  C* tangentRows = rows + kMeanRows * width;
  const auto add = [&](const C* from, int64_t rowStride, int64_t some, C* to) {
    C sum[kMaxHeadDim];
    std::fill_n(sum, dim, C(0));
    for (int64_t j = 0; j < some; ++j) {
      for (int64_t p = 0; p < dim; ++p) sum[p] += from[j * rowStride + p];
    }
    for (int64_t p = 0; p < dim; ++p) to[p] += sum[p];
  };
  const auto divide = [&](C* to) {
    for (int64_t p = 0; p < dim; ++p) to[p] = std::isfinite(to[p]) ? to[p] / static_cast<C>(count) : C(0);
  };
  std::fill_n(mean, width, C(0));
  if (tk) std::fill_n(tangentMean, width, C(0));
  for (int64_t j = 0; j < count; j += kMeanRows) {
    const int64_t some = std::min(kMeanRows, count - j);
    const T *firstKey = k + j * stride, *firstTangent = tk ? tk + j * stride : nullptr;
    if constexpr (std::is_same_v<T, C>) {
      if (norm.isPlain()) {
        add(firstKey, stride, some, mean);
        if (tk) add(firstTangent, stride, some, tangentMean);
        continue;
      }
    }
    norm.load(firstKey, firstTangent, stride, some, rows, tangentRows);
    add(rows, width, some, mean);
    if (tk) add(tangentRows, width, some, tangentMean);
  }
  if (count == 0) return;
  divide(mean);
  if (tk) divide(tangentMean);
}

// Makes zeros of what in a mean over these rows, [rows, padded(dim)], is less than the spread about it.
template <class C>
void keepRulingMeans(const C* rows, int64_t count, int64_t dim, C* mean) {
  const int64_t width = padded<C>(dim);
  C squares[kMaxHeadDim];
  std::fill_n(squares, dim, C(0));
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t p = 0; p < dim; ++p) squares[p] += (rows[j * width + p] - mean[p]) * (rows[j * width + p] - mean[p]);
  }
  for (int64_t p = 0; p < dim; ++p) {
    if (!(mean[p] * mean[p] * static_cast<C>(count) > squares[p])) mean[p] = C(0);
  }
}

// Whether these rows are made of a mean for the most part.
template <class C>
bool rules(const C* mean, const C* rows, int64_t count, int64_t dim) {
  C square = 0, squares = 0;
  for (int64_t p = 0; p < dim; ++p) square += mean[p] * mean[p];
  for (int64_t j = 0; j < count; ++j) {
    for (int64_t p = 0; p < dim; ++p) squares += rows[j * padded<C>(dim) + p] * rows[j * padded<C>(dim) + p];
  }
  return 2 * square * static_cast<C>(count) > squares;
}

// Takes a mean off rows [rows, padded(dim)].
template <class C>
void subtractRows(C* rows, const C* mean, int64_t count, int64_t dim) {
  const int64_t width = padded<C>(dim);
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t p = 0; p < dim; ++p) rows[i * width + p] -= mean[p];
  }
}

}  // namespace flowmap::cpu
