// How the rows of a normalised tensor lie and share their affine map; one kernel serves weights, adaLN and QKV splits.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/tensor.h"

namespace flowmap {

struct NormLayout {
  int64_t rows = 0;
  int64_t dim = 0;
  // Rows [i · rowsPerGroup, (i + 1) · rowsPerGroup) share row i of gain and shift.
  int64_t rowsPerGroup = 1;
  // In x (and its tangent and gradients), row i begins at
  //   (i / rowsPerSegment) · segmentStride + segmentOffset + (i mod rowsPerSegment) · dim; elsewhere at i · dim.
  int64_t rowsPerSegment = 1;
  int64_t segmentStride = 0;
  int64_t segmentOffset = 0;
  // y = x̂ ∘ (gainOffset + gain) + shift; an absent gain is 1 − gainOffset, an absent shift 0.
  double gainOffset = 0;
  // Take each row's mean off first: LayerNorm is the RMS normalisation of x − mean x.
  bool centered = false;
  double eps = 0;
};

// Of the rows of x [..., D], which lie as they come; groups of them are as large as x where it has fewer.
inline NormLayout normLayoutOf(const Tensor& x, double eps, int64_t rowsPerGroup = INT64_MAX) {
  NormLayout layout;
  layout.dim = x.shape()[-1];
  layout.rows = x.shape().product(0, x.rank() - 1);
  layout.rowsPerGroup = std::max<int64_t>(1, std::min(rowsPerGroup, layout.rows));
  layout.rowsPerSegment = std::max<int64_t>(1, layout.rows);
  layout.eps = eps;
  return layout;
}

struct NormOperands {
  Tensor x, gain, shift;
  Tensor tx, tgain, tshift;
};

struct NormGradients {
  Tensor gx, ggain, gshift;
  Tensor gtx, gtgain, gtshift;
};

// A fused projection qkv [tokens, 3, heads, dim] and its parts [tokens, heads, dim], of which q and k may be
// normalised, each with its weight.
struct QkvLayout {
  int64_t tokens = 0, heads = 0, dim = 0;
  bool normalize = false;
  double eps = 0;

  // The rows of a part.
  NormLayout rows(int part) const {
    NormLayout layout;
    layout.rows = tokens * heads;
    layout.dim = dim;
    layout.rowsPerGroup = std::max<int64_t>(1, layout.rows);
    layout.rowsPerSegment = std::max<int64_t>(1, heads);
    layout.segmentStride = 3 * heads * dim;
    layout.segmentOffset = part * heads * dim;
    layout.eps = eps;
    return layout;
  }
  bool normalizes(int part) const { return normalize && part < 2; }
};

// Of q, k, v; v has no weight.
struct QkvOperands {
  Tensor qkv, tqkv;
  std::array<Tensor, 3> weights, tweights;
};

struct QkvGradients {
  Tensor gqkv, gtqkv;
  std::array<Tensor, 3> gweights, gtweights;
};

}  // namespace flowmap
