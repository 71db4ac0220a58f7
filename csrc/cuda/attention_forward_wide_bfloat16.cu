// The kernels of attention_forward_wide.cuh for bfloat16.
#include "cuda/attention_forward_wide.cuh"

namespace flowmap::cuda {

void attentionForwardWideBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  launchAttentionForward<BFloat16, true>(runtime, call, out);
}

}  // namespace flowmap::cuda
