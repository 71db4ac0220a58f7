// The ways to compute attention on CUDA: attention.cc takes the fused kernels where they apply, and else the
// composition.
#pragma once

#include "core/attention_args.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {

// A fault where a number of keys is out of range; `out` is what the op computes. Such a row's results are NaN.
void checkKeyLengths(Runtime& runtime, const AttentionGeometry& geometry, const Tensor& keyLengths, const Tensor& out);

// Any floating dtype and head size, by way of matrices of all scores: slower.
void attentionComposed(Runtime& runtime, const AttentionGeometry& geometry, const AttentionResults& out,
                       const AttentionOperands& in);
void attentionVjpComposed(Runtime& runtime, const AttentionGeometry& geometry, const AttentionGradients& out,
                          const AttentionOperands& in, const Tensor& g, const Tensor& h);

// Fused, on tensor cores: see fusedForward and fusedBackward in attention.cc for what they take; wide is more than 128.
void attentionForwardBFloat16(const Runtime& runtime, const AttentionGeometry& geometry, const AttentionResults& out,
                              const AttentionOperands& in);
void attentionForwardFloat16(const Runtime& runtime, const AttentionGeometry& geometry, const AttentionResults& out,
                             const AttentionOperands& in);
void attentionForwardWideBFloat16(const Runtime& runtime, const AttentionGeometry& geometry,
                                  const AttentionResults& out, const AttentionOperands& in);
void attentionForwardWideFloat16(const Runtime& runtime, const AttentionGeometry& geometry, const AttentionResults& out,
                                 const AttentionOperands& in);
void attentionBackwardBFloat16(const Runtime& runtime, const AttentionGeometry& geometry, const AttentionGradients& out,
                               const AttentionOperands& in, const AttentionResults& saved, const Tensor& g,
                               const Tensor& h);
void attentionBackwardFloat16(const Runtime& runtime, const AttentionGeometry& geometry, const AttentionGradients& out,
                              const AttentionOperands& in, const AttentionResults& saved, const Tensor& g,
                              const Tensor& h);
void attentionBackwardWideBFloat16(const Runtime& runtime, const AttentionGeometry& geometry,
                                   const AttentionGradients& out, const AttentionOperands& in,
                                   const AttentionResults& saved, const Tensor& g, const Tensor& h);
void attentionBackwardWideFloat16(const Runtime& runtime, const AttentionGeometry& geometry,
                                  const AttentionGradients& out, const AttentionOperands& in,
                                  const AttentionResults& saved, const Tensor& g, const Tensor& h);

}  // namespace flowmap::cuda
