// The kernels of attention_backward_wide.cuh for float16.
#include "cuda/attention_backward_wide.cuh"

namespace flowmap::cuda {

void attentionBackwardWideFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                                  const AttentionResults& saved, const Tensor& g, const Tensor& h) {
  launchAttentionBackward<Float16, true>(runtime, call, out, saved, g, h);
}

}  // namespace flowmap::cuda
