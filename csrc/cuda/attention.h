// The ways to compute attention on CUDA: attention.cc takes the fused kernels where they apply, and else the
// composition.
#pragma once

#include <vector_types.h>

#include "core/attention_args.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {

// A fault where a number of keys is out of range, or offsets of packed sequences are none; `out` is what the op
// computes. For packed sequences `sound` becomes 0 then, else 1.
void checkSequences(Runtime& runtime, const AttentionGeometry& geometry, const AttentionOperands& in, const Tensor& out,
                    int32_t* sound);

// What QKNorm makes of the rows of queries or keys, and what the centring of keys takes off: see OperandNorm.
struct AttentionNorm {
  const float2* rows = nullptr;
  const float *mean = nullptr, *tangentMean = nullptr;
};

// What is known of a call before its kernels run: where it is unknown what queries see, results are NaN.
struct AttentionCall {
  const AttentionGeometry& geometry;
  const AttentionOperands& in;
  const int32_t* sound;         // of packed sequences: see checkSequences
  AttentionNorm queries, keys;  // for the fused kernels: others take operands that are normalised already
};

// The statistics of QKNorm of each row of x [..., D]: r = (mean x² + eps)^-½ and c = r² mean(x·tx); 16-bit x. An absent
// tx is zero.
void attentionRowNorms(const Runtime& runtime, float2* rows, const Tensor& x, const Tensor& tx, double eps);

// The means over the keys that count, [B or sequences, Hk, D] in the compute type, of k as `call` normalises it, and of
// its tangent where there is one.
void attentionKeyMeans(const Runtime& runtime, const AttentionCall& call, void* means, void* tangentMeans);
// x, which lies as k does, less its unit's mean (null: as it is), with zeros for keys that do not count -> y.
void attentionCountingKeys(const Runtime& runtime, const AttentionCall& call, const Tensor& y, const Tensor& x,
                           const void* means);

// Any floating dtype and head size, by way of matrices of all scores: slower.
void attentionComposed(Runtime& runtime, const AttentionCall& call, const AttentionResults& out);
void attentionVjpComposed(Runtime& runtime, const AttentionCall& call, const AttentionGradients& out, const Tensor& g,
                          const Tensor& h);

// Fused, on tensor cores: see fusedForward and fusedBackward in attention.cc for what they take; wide is more than 128.
void attentionForwardBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out);
void attentionForwardFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out);
void attentionBackwardBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                               const AttentionResults& saved, const Tensor& g, const Tensor& h);
void attentionBackwardFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                              const AttentionResults& saved, const Tensor& g, const Tensor& h);
void attentionForwardWideBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out);
void attentionForwardWideFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out);
void attentionBackwardWideBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                                   const AttentionResults& saved, const Tensor& g, const Tensor& h);
void attentionBackwardWideFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                                  const AttentionResults& saved, const Tensor& g, const Tensor& h);

// For devices of capability 9.0: see runsOnHopper in attention_hopper.h.
void attentionBackwardHopperBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                                     const AttentionResults& saved, const Tensor& g, const Tensor& h);
void attentionBackwardHopperFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                                    const AttentionResults& saved, const Tensor& g, const Tensor& h);

}  // namespace flowmap::cuda
