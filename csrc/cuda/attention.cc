// Chooses how attention is computed.
#include "cuda/attention.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>

#include "cuda/backend.h"
#include "cuda/scratch.h"

namespace flowmap::cuda {
namespace {

constexpr int64_t kMostFusedDim = 128;
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
  if (!saved.o || !saved.lse) return false;
  if (tangentCotangent && (in.tq || in.tk || in.tv) && (!saved.to || !saved.mu)) return false;
  return fused(g, in.q.dtype(),
               {&in.q, &in.k, &in.v, &in.tq, &in.tk, &in.tv, &saved.o, &saved.to, &cotangent, &tangentCotangent,
                &out.gq, &out.gk, &out.gv, &out.gtq, &out.gtk, &out.gtv});
}

void refuseNorm(const AttentionGeometry& g) {
  if (g.normalize) fail(ErrorCode::Argument, "attention", "qkNorm is not supported on this device");
  if (g.centerKeys) fail(ErrorCode::Argument, "attention", "centerKeys is not supported on this device");
}

}  // namespace

void CudaBackend::attention(const AttentionGeometry& geometry, const AttentionResults& out,
                            const AttentionOperands& in) {
  refuseNorm(geometry);
  const Scratch<int32_t> sound(in.q.device(), 1);
  const AttentionCall call{geometry, in, sound.data()};
  checkSequences(runtime_, geometry, in, out.o, sound.data());
  if (!fusedForward(geometry, out, in))
    attentionComposed(runtime_, call, out);
  else if (in.q.dtype() == DType::BFloat16)
    attentionForwardBFloat16(runtime_, call, out);
  else
    attentionForwardFloat16(runtime_, call, out);
}

void CudaBackend::attentionVjp(const AttentionGeometry& geometry, const AttentionGradients& out,
                               const AttentionOperands& in, const AttentionResults& saved, const Tensor& g,
                               const Tensor& h) {
  refuseNorm(geometry);
  const Tensor* all[] = {&out.gq, &out.gk, &out.gv, &out.gtq, &out.gtk, &out.gtv};
  const auto some = std::find_if(std::begin(all), std::end(all), [](const Tensor* x) { return static_cast<bool>(*x); });
  if (some == std::end(all)) return;
  const Scratch<int32_t> sound(in.q.device(), 1);
  const AttentionCall call{geometry, in, sound.data()};
  checkSequences(runtime_, geometry, in, **some, sound.data());
  if (!fusedBackward(geometry, out, in, saved, g, h))
    attentionVjpComposed(runtime_, call, out, g, h);
  else if (in.q.dtype() == DType::BFloat16)
    attentionBackwardBFloat16(runtime_, call, out, saved, g, h);
  else
    attentionBackwardFloat16(runtime_, call, out, saved, g, h);
}

}  // namespace flowmap::cuda
