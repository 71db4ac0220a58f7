// The kernels of attention_forward.cuh for float16.
#include "cuda/attention_forward.cuh"

namespace flowmap::cuda {

void attentionForwardFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  launchAttentionForward<Float16>(runtime, call, out);
}

}  // namespace flowmap::cuda
