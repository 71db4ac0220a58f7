// The kernels of attention_forward_wide.cuh for float16.
#include "cuda/attention.h"
#include "cuda/attention_forward_wide.cuh"

namespace flowmap::cuda {

void attentionForwardWideFloat16(const Runtime& runtime, const AttentionGeometry& geometry, const AttentionResults& out,
                                 const AttentionOperands& in) {
  launchAttentionForward<Float16, true>(runtime, geometry, out, in);
}

}  // namespace flowmap::cuda
