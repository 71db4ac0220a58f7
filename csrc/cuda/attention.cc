// Chooses how attention is computed.
#include "cuda/attention.h"

#include <algorithm>
#include <initializer_list>

#include "cuda/backend.h"

namespace flowmap::cuda {
namespace {

constexpr int64_t kMostFusedDim = 256, kMostNarrowDim = 128;
constexpr int64_t kMostTokens = int64_t{1} << 30, kMostHeads = (int64_t{1} << 31) - 1;

bool aligned(const Tensor& x) { return !x || reinterpret_cast<uintptr_t>(x.data<const void>()) % 16 == 0; }

// Tensor cores take 16-bit elements; rows must be whole chunks of 16 bytes.
bool fused(const AttentionGeometry& g, DType dtype, std::initializer_list<const Tensor*> rows) {
  if (dtype != DType::BFloat16 && dtype != DType::Float16) return false;
  if (g.dim > kMostFusedDim || g.dim % 8 != 0 || g.queries >= kMostTokens || g.keys >= kMostTokens) return false;
  if (g.batch * g.queryHeads * g.queries == 0 || g.batch * g.queryHeads > kMostHeads) return false;
  return std::all_of(rows.begin(), rows.end(), [](const Tensor* x) { return aligned(*x); });
}

bool fusedForward(const AttentionGeometry& g, const AttentionResults& out, const AttentionOperands& in) {
  return fused(g, in.q.dtype(), {&in.q, &in.k, &in.v, &in.tq, &in.tk, &in.tv, &out.o, &out.to});
}

// What the forward pass saved has to be there.
bool fusedBackward(const AttentionGeometry& g, const AttentionGradients& out, const AttentionOperands& in,
                   const AttentionResults& saved, const Tensor& cotangent, const Tensor& tangentCotangent) {
  if (!saved.o || !saved.lse || g.keys == 0) return false;
  if (tangentCotangent && (in.tq || in.tk || in.tv) && (!saved.to || !saved.mu)) return false;
  return fused(g, in.q.dtype(),
               {&in.q, &in.k, &in.v, &in.tq, &in.tk, &in.tv, &saved.o, &saved.to, &cotangent, &tangentCotangent,
                &out.gq, &out.gk, &out.gv, &out.gtq, &out.gtk, &out.gtv});
}

}  // namespace

void CudaBackend::attention(const AttentionGeometry& geometry, const AttentionResults& out,
                            const AttentionOperands& in) {
  refuseNewOptions(geometry);
  if (!fusedForward(geometry, out, in)) return attentionComposed(runtime_, geometry, out, in);
  checkKeyLengths(runtime_, geometry, in.keyLengths, out.o);
  const bool wide = geometry.dim > kMostNarrowDim;
  const auto forward = in.q.dtype() == DType::BFloat16
                           ? (wide ? attentionForwardWideBFloat16 : attentionForwardBFloat16)
                           : (wide ? attentionForwardWideFloat16 : attentionForwardFloat16);
  forward(runtime_, geometry, out, in);
}

void CudaBackend::attentionVjp(const AttentionGeometry& geometry, const AttentionGradients& out,
                               const AttentionOperands& in, const AttentionResults& saved, const Tensor& g,
                               const Tensor& h) {
  refuseNewOptions(geometry);
  if (!fusedBackward(geometry, out, in, saved, g, h)) return attentionVjpComposed(runtime_, geometry, out, in, g, h);
  for (const Tensor* x : {&out.gq, &out.gk, &out.gv, &out.gtq, &out.gtk, &out.gtv}) {
    if (!*x) continue;
    checkKeyLengths(runtime_, geometry, in.keyLengths, *x);
    break;
  }
  const bool wide = geometry.dim > kMostNarrowDim;
  const auto backward = in.q.dtype() == DType::BFloat16
                            ? (wide ? attentionBackwardWideBFloat16 : attentionBackwardBFloat16)
                            : (wide ? attentionBackwardWideFloat16 : attentionBackwardFloat16);
  backward(runtime_, geometry, out, in, saved, g, h);
}

}  // namespace flowmap::cuda
