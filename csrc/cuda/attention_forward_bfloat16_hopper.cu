// The kernels of attention_forward_hopper.cuh for bfloat16.
#include "cuda/attention_forward_hopper.cuh"

namespace flowmap::cuda {

void attentionForwardHopperBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  launchAttentionForwardHopper<BFloat16>(runtime, call, out);
}

}  // namespace flowmap::cuda
