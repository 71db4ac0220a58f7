// Chooses how attention is computed.
#include "cuda/attention.h"

#include "cuda/backend.h"

namespace flowmap::cuda {
namespace {

constexpr int64_t kMostFusedDim = 128;
constexpr int64_t kMostTokens = int64_t{1} << 30, kMostHeads = (int64_t{1} << 31) - 1;

bool aligned(const Tensor& x) { return !x || reinterpret_cast<uintptr_t>(x.data<const void>()) % 16 == 0; }

// Tensor cores take 16-bit elements; rows must be whole chunks of 16 bytes.
bool fusedForward(const AttentionGeometry& g, const AttentionResults& out, const AttentionOperands& in) {
  const DType dtype = in.q.dtype();
  if (dtype != DType::BFloat16 && dtype != DType::Float16) return false;
  if (g.dim > kMostFusedDim || g.dim % 8 != 0 || g.queries >= kMostTokens || g.keys >= kMostTokens) return false;
  if (g.batch * g.queryHeads * g.queries == 0 || g.batch * g.queryHeads > kMostHeads) return false;
  for (const Tensor* x : {&in.q, &in.k, &in.v, &in.tq, &in.tk, &in.tv, &out.o, &out.to}) {
    if (!aligned(*x)) return false;
  }
  return true;
}

}  // namespace

void CudaBackend::attention(const AttentionGeometry& geometry, const AttentionResults& out,
                            const AttentionOperands& in) {
  if (!fusedForward(geometry, out, in)) return attentionComposed(runtime_, geometry, out, in);
  checkKeyLengths(runtime_, geometry, in.keyLengths, out.o);
  if (in.q.dtype() == DType::BFloat16)
    attentionForwardBFloat16(runtime_, geometry, out, in);
  else
    attentionForwardFloat16(runtime_, geometry, out, in);
}

void CudaBackend::attentionVjp(const AttentionGeometry& geometry, const AttentionGradients& out,
                               const AttentionOperands& in, const AttentionResults&, const Tensor& g, const Tensor& h) {
  attentionVjpComposed(runtime_, geometry, out, in, g, h);
}

}  // namespace flowmap::cuda
