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
    Wide wide;
    for (int64_t first = 0; first < rows; first += normRowsTogether(dim_)) {
      const NormRows<C> in = at(x, tx, stride, first, rows, wide);
      RowsOut<C> to, tangentsTo;
      tangentsTo[0] = nullptr;
      for (int64_t i = 0; i < in.count; ++i) {
        to[i] = y + (first + i) * width_;
        std::fill(to[i] + dim_, to[i] + width_, C(0));
        if (!tx) continue;
        tangentsTo[i] = ty + (first + i) * width_;
        std::fill(tangentsTo[i] + dim_, tangentsTo[i] + width_, C(0));
      }
      normForwardRows(in, to, tangentsTo);
    }
  }

  // In place, cotangents of what `load` gives, [rows, padded(dim)] -> those of x and tx; their gradient of the weight
  // is added to `weight` unless null.
  void pullBack(const T* x, const T* tx, int64_t stride, int64_t rows, C* g, C* h, C* weight) const {
    if (!normalize_) return;
    Wide wide;
    C sum[kMaxHeadDim];  // of these rows, before they join the rest
    if (weight) std::fill_n(sum, dim_, C(0));
    for (int64_t first = 0; first < rows; first += normRowsTogether(dim_)) {
      const NormRows<C> in = at(x, tx, stride, first, rows, wide);
      NormRowsGradients<C> gradients;
      gradients.gainSum = weight ? sum : nullptr;
      gradients.tgainSum = gradients.shiftSum = gradients.tshiftSum = nullptr;
      for (int64_t i = 0; i < in.count; ++i) {
        gradients.g[i] = gradients.gx[i] = g + (first + i) * width_;
        gradients.h[i] = gradients.gtx[i] = h + (first + i) * width_;
      }
      normBackwardRows(in, gradients);
    }
    for (int64_t p = 0; weight && p < dim_; ++p) weight[p] += sum[p];
  }

 private:
  // Rows of 16 bits, widened.
  struct Wide {
    C x[std::is_same_v<T, C> ? 1 : kNormRows * kMaxHeadDim], tx[std::is_same_v<T, C> ? 1 : kNormRows * kMaxHeadDim];
  };

  // Those from `first` on that are normalised together.
  NormRows<C> at(const T* x, const T* tx, int64_t stride, int64_t first, int64_t rows, Wide& wide) const {
    NormRows<C> result;
    result.count = std::min(normRowsTogether(dim_), rows - first), result.dim = dim_;
    result.eps = eps_, result.offset = C(0);
    result.gain = gain_.data(), result.tgain = result.shift = result.tshift = zeros_.data();
    result.scaled = true, result.modulated = false;
    for (int64_t i = 0; i < result.count; ++i) {
      const T *primal = x + (first + i) * stride, *tangent = tx ? tx + (first + i) * stride : nullptr;
      if constexpr (std::is_same_v<T, C>) {
        result.x[i] = primal;
        result.tx[i] = tx ? tangent : zeros_.data();
      } else {
        toFloatRun(wide.x + i * dim_, primal, dim_);
        if (tx) toFloatRun(wide.tx + i * dim_, tangent, dim_);
        result.x[i] = wide.x + i * dim_;
        result.tx[i] = tx ? wide.tx + i * dim_ : zeros_.data();
      }
    }
    return result;
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
