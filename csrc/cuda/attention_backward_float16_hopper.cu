// The kernels of attention_backward_hopper.cuh for float16.
#include "cuda/attention_backward_hopper.cuh"

namespace flowmap::cuda {

void attentionBackwardHopperFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                                    const AttentionResults& saved, const Tensor& g, const Tensor& h) {
  launchAttentionBackwardHopper<Float16>(runtime, call, out, saved, g, h);
}

}  // namespace flowmap::cuda
