// The kernels of attention_forward_wide.cuh for float16.
#include "cuda/attention_forward_wide.cuh"

namespace flowmap::cuda {

void attentionForwardWideFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  launchAttentionForward<Float16, true>(runtime, call, out);
}

}  // namespace flowmap::cuda
