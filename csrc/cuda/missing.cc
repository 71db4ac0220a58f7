// What CUDA devices cannot compute yet, and say so.
#include "cuda/backend.h"

namespace flowmap::cuda {
namespace {

[[noreturn]] void missing(const char* op) {
  throw Error(ErrorCode::Device, op, "there is no CUDA kernel yet for this operation: use device 'cpu'");
}

}  // namespace

void CudaBackend::attention(const AttentionGeometry&, const AttentionResults&, const AttentionOperands&) {
  missing("attention");
}
void CudaBackend::attentionVjp(const AttentionGeometry&, const AttentionGradients&, const AttentionOperands&,
                               const AttentionResults&, const Tensor&, const Tensor&) {
  missing("attentionVjp");
}

}  // namespace flowmap::cuda
