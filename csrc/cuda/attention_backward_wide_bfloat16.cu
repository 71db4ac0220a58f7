// The kernels of attention_backward_wide.cuh for bfloat16.
#include "cuda/attention.h"
#include "cuda/attention_backward_wide.cuh"

namespace flowmap::cuda {

void attentionBackwardWideBFloat16(const Runtime& runtime, const AttentionGeometry& geometry,
                                   const AttentionGradients& out, const AttentionOperands& in,
                                   const AttentionResults& saved, const Tensor& g, const Tensor& h) {
  launchAttentionBackward<BFloat16, true>(runtime, geometry, out, in, saved, g, h);
}

}  // namespace flowmap::cuda
