// The kernels of attention_backward_hopper.cuh for bfloat16.
#include "cuda/attention_backward_hopper.cuh"

namespace flowmap::cuda {

void attentionBackwardHopperBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                                     const AttentionResults& saved, const Tensor& g, const Tensor& h) {
  launchAttentionBackwardHopper<BFloat16>(runtime, call, out, saved, g, h);
}

}  // namespace flowmap::cuda
