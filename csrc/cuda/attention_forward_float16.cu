// The kernels of attention_forward.cuh for float16.
#include "cuda/attention.h"
#include "cuda/attention_forward.cuh"

namespace flowmap::cuda {

void attentionForwardFloat16(const Runtime& runtime, const AttentionGeometry& geometry, const AttentionResults& out,
                             const AttentionOperands& in) {
  launchAttentionForward<Float16>(runtime, geometry, out, in);
}

}  // namespace flowmap::cuda
