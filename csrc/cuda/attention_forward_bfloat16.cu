// The kernels of attention_forward.cuh for bfloat16.
#include "cuda/attention_forward.cuh"

namespace flowmap::cuda {

void attentionForwardBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  launchAttentionForward<BFloat16>(runtime, call, out);
}

}  // namespace flowmap::cuda
