// Chooses how attention is computed.
#include "cuda/attention.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>

#include "cuda/attention_hopper.h"
#include "cuda/attention_prepare.h"
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
  return fused(g, in.q.dtype(),
               {&in.q, &in.k, &in.v, &in.tq, &in.tk, &in.tv, &in.qWeight, &in.kWeight, &out.o, &out.to});
}

// What the forward pass saved has to be there.
bool fusedBackward(const AttentionGeometry& g, const AttentionGradients& out, const AttentionOperands& in,
                   const AttentionResults& saved, const Tensor& cotangent, const Tensor& tangentCotangent) {
  if (!saved.o || !saved.lse) return false;
  if (tangentCotangent && (in.tq || in.tk || in.tv) && (!saved.to || !saved.mu)) return false;
  return fused(g, in.q.dtype(),
               {&in.q, &in.k, &in.v, &in.tq, &in.tk, &in.tv, &in.qWeight, &in.kWeight, &saved.o, &saved.to, &cotangent,
                &tangentCotangent, &out.gq, &out.gk, &out.gv, &out.gtq, &out.gtk, &out.gtv});
}

auto forwardOf(const Runtime& runtime, const AttentionGeometry& g, DType dtype) {
  if (runsOnHopper(runtime, g))
    return dtype == DType::BFloat16 ? attentionForwardHopperBFloat16 : attentionForwardHopperFloat16;
  if (g.dim > kMostNarrowDim)
    return dtype == DType::BFloat16 ? attentionForwardWideBFloat16 : attentionForwardWideFloat16;
  return dtype == DType::BFloat16 ? attentionForwardBFloat16 : attentionForwardFloat16;
}

auto backwardOf(const Runtime& runtime, const AttentionGeometry& g, DType dtype) {
  if (backwardOnHopper(runtime, g))
    return dtype == DType::BFloat16 ? attentionBackwardHopperBFloat16 : attentionBackwardHopperFloat16;
  if (g.dim > kMostNarrowDim)
    return dtype == DType::BFloat16 ? attentionBackwardWideBFloat16 : attentionBackwardWideFloat16;
  return dtype == DType::BFloat16 ? attentionBackwardBFloat16 : attentionBackwardFloat16;
}

}  // namespace

void CudaBackend::attention(const AttentionGeometry& geometry, const AttentionResults& out,
                            const AttentionOperands& in) {
  const bool fused = fusedForward(geometry, out, in);
  const PreparedAttention prepared(runtime_, *this, geometry, in, out.o, fused);
  const AttentionCall call = prepared.call();
  if (!fused)
    attentionComposed(runtime_, call, out);
  else
    forwardOf(runtime_, geometry, in.q.dtype())(runtime_, call, out);
}

void CudaBackend::attentionVjp(const AttentionGeometry& geometry, const AttentionGradients& out,
                               const AttentionOperands& in, const AttentionResults& saved, const Tensor& g,
                               const Tensor& h) {
  const Tensor* all[] = {&out.gq, &out.gk, &out.gv, &out.gtq, &out.gtk, &out.gtv, &out.gqWeight, &out.gkWeight};
  const auto some = std::find_if(std::begin(all), std::end(all), [](const Tensor* x) { return static_cast<bool>(*x); });
  if (some == std::end(all)) return;
  const NormedGradients gradients(geometry, out, in, static_cast<bool>(h));
  const bool fused = fusedBackward(geometry, gradients.attention(), in, saved, g, h);
  const PreparedAttention prepared(runtime_, *this, geometry, in, **some, fused);
  const AttentionCall call = prepared.call();
  if (!fused)
    attentionVjpComposed(runtime_, call, gradients.attention(), g, h);
  else
    backwardOf(runtime_, geometry, in.q.dtype())(runtime_, call, gradients.attention(), saved, g, h);
  gradients.finish(runtime_, *this, call, in);
}

}  // namespace flowmap::cuda
