// The kernels of attention_forward.cuh for bfloat16.
#include "cuda/attention.h"
#include "cuda/attention_forward.cuh"

namespace flowmap::cuda {

void attentionForwardBFloat16(const Runtime& runtime, const AttentionGeometry& geometry, const AttentionResults& out,
                              const AttentionOperands& in) {
  launchAttentionForward<BFloat16>(runtime, geometry, out, in);
}

}  // namespace flowmap::cuda
