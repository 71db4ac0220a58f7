// The kernels of attention_forward_hopper.cuh for float16.
#include "cuda/attention_forward_hopper.cuh"

namespace flowmap::cuda {

void attentionForwardHopperFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  launchAttentionForwardHopper<Float16>(runtime, call, out);
}

}  // namespace flowmap::cuda
