// The kernels of attention_forward_wide.cuh for bfloat16.
#include "cuda/attention.h"
#include "cuda/attention_forward_wide.cuh"

namespace flowmap::cuda {

void attentionForwardWideBFloat16(const Runtime& runtime, const AttentionGeometry& geometry,
                                  const AttentionResults& out, const AttentionOperands& in) {
  launchAttentionForward<BFloat16, true>(runtime, geometry, out, in);
}

}  // namespace flowmap::cuda
