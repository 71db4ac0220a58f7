// The kernels of attention_backward.cuh for bfloat16.
#include "cuda/attention_backward.cuh"

namespace flowmap::cuda {

void attentionBackwardBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                               const AttentionResults& saved, const Tensor& g, const Tensor& h) {
  launchAttentionBackward<BFloat16>(runtime, call, out, saved, g, h);
}

}  // namespace flowmap::cuda
