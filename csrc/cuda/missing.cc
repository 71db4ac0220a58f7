// What CUDA devices cannot compute yet, and say so.
#include "cuda/backend.h"

namespace flowmap::cuda {
namespace {

[[noreturn]] void missing(const char* op) {
  throw Error(ErrorCode::Device, op, "there is no CUDA kernel yet for this operation: use device 'cpu'");
}

}  // namespace

void CudaBackend::matmul(const Tensor&, const Tensor&, const Tensor&, bool, bool) { missing("matmul"); }
void CudaBackend::linearJvp(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                            const Tensor&, const Tensor&) {
  missing("linearJvp");
}
void CudaBackend::linearJvpVjp(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                               const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                               const Tensor&) {
  missing("linearJvpVjp");
}
void CudaBackend::norm(const NormLayout&, const Tensor&, const Tensor&, const NormOperands&) { missing("norm"); }
void CudaBackend::normVjp(const NormLayout&, const NormGradients&, const NormOperands&, const Tensor&, const Tensor&) {
  missing("normVjp");
}
void CudaBackend::attention(const AttentionGeometry&, const AttentionResults&, const AttentionOperands&) {
  missing("attention");
}
void CudaBackend::attentionVjp(const AttentionGeometry&, const AttentionGradients&, const AttentionOperands&,
                               const AttentionResults&, const Tensor&, const Tensor&) {
  missing("attentionVjp");
}
void CudaBackend::mmd(const MmdOptions&, const Tensor&, const Tensor&, const MmdOperands&, const Tensor&,
                      const Tensor&) {
  missing("mmd");
}
void CudaBackend::mmdVjp(const MmdOptions&, const Tensor&, const Tensor&, const Tensor&, const MmdOperands&,
                         const Tensor&) {
  missing("mmdVjp");
}

}  // namespace flowmap::cuda
