// The kernels of attention_backward.cuh for float16.
#include "cuda/attention_backward.cuh"

namespace flowmap::cuda {

void attentionBackwardFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                              const AttentionResults& saved, const Tensor& g, const Tensor& h) {
  launchAttentionBackward<Float16>(runtime, call, out, saved, g, h);
}

}  // namespace flowmap::cuda
