// How the rows of a normalised tensor lie and share their affine map; one kernel serves weights, adaLN and QKV splits.
#pragma once

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

struct NormOperands {
  Tensor x, gain, shift;
  Tensor tx, tgain, tshift;
};

struct NormGradients {
  Tensor gx, ggain, gshift;
  Tensor gtx, gtgain, gtshift;
};

}  // namespace flowmap
