// The ways to compute attention on CUDA: attention.cc takes the fused kernels where they apply, and else the
// composition.
#pragma once

#include "core/attention_args.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {

// A fault where a number of keys is out of range, or offsets of packed sequences are none; `out` is what the op
// computes. For packed sequences `sound` becomes 0 then, else 1.
void checkSequences(Runtime& runtime, const AttentionGeometry& geometry, const AttentionOperands& in, const Tensor& out,
                    int32_t* sound);

// What is known of a call before its kernels run: where it is unknown what queries see, results are NaN.
struct AttentionCall {
  const AttentionGeometry& geometry;
  const AttentionOperands& in;
  const int32_t* sound;  // of packed sequences: see checkSequences
};

// Any floating dtype and head size, by way of matrices of all scores: slower.
void attentionComposed(Runtime& runtime, const AttentionCall& call, const AttentionResults& out);
void attentionVjpComposed(Runtime& runtime, const AttentionCall& call, const AttentionGradients& out, const Tensor& g,
                          const Tensor& h);

// Fused, on tensor cores: see fusedForward and fusedBackward in attention.cc for what they take.
void attentionForwardBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out);
void attentionForwardFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out);
void attentionBackwardBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                               const AttentionResults& saved, const Tensor& g, const Tensor& h);
void attentionBackwardFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                              const AttentionResults& saved, const Tensor& g, const Tensor& h);

}  // namespace flowmap::cuda
