#include "cuda/attention_prepare.h"

#include <algorithm>

namespace flowmap::cuda {
namespace {

Tensor madeLike(const Tensor& x) {
  Tensor made = Tensor::emptyLike(x);
  made.storage()->materialize();
  return made;
}

}  // namespace

PreparedAttention::PreparedAttention(Runtime& runtime, Backend& backend, const AttentionGeometry& geometry,
                                     const AttentionOperands& in, const Tensor& out, bool fused)
    : geometry_(geometry), in_(in), sound_(in.q.device(), 1) {
  checkSequences(runtime, geometry, in, out, sound_.data());
  if (fused)
    prepareFused(runtime);
  else
    prepareComposed(runtime, backend);
}

void PreparedAttention::prepareFused(const Runtime& runtime) {
  Device& device = in_.q.device();
  if (geometry_.normalize) {
    queryRows_.emplace(device, in_.q.numel() / geometry_.dim);
    keyRows_.emplace(device, in_.k.numel() / geometry_.dim);
    attentionRowNorms(runtime, queryRows_->data(), in_.q, in_.tq, geometry_.eps);
    attentionRowNorms(runtime, keyRows_->data(), in_.k, in_.tk, geometry_.eps);
    queries_.rows = queryRows_->data();
    keys_.rows = keyRows_->data();
  }
  if (!geometry_.centerKeys) return;
  const int64_t size = (geometry_.packed ? geometry_.sequences : geometry_.batch) * geometry_.keyHeads * geometry_.dim;
  means_.emplace(device, std::max<int64_t>(1, size));
  float* const means = reinterpret_cast<float*>(means_->data());
  attentionKeyMeans(runtime, call(), means, in_.tk ? means + size : nullptr);
  keys_.mean = means;
  keys_.tangentMean = in_.tk ? means + size : nullptr;
}

void PreparedAttention::prepareComposed(const Runtime& runtime, Backend& backend) {
  if (geometry_.normalize) {
    const auto normalize = [&](Tensor& x, Tensor& tx, Tensor& weight) {
      const Tensor y = madeLike(x), ty = tx ? madeLike(x) : Tensor();
      backend.norm(normLayoutOf(x, geometry_.eps), y, ty, {x, weight, {}, tx, {}, {}});
      x = y, tx = ty, weight = {};
    };
    normalize(in_.q, in_.tq, in_.qWeight);
    normalize(in_.k, in_.tk, in_.kWeight);
  }
  if (!geometry_.centerKeys) return;
  const int64_t size = (geometry_.packed ? geometry_.sequences : geometry_.batch) * geometry_.keyHeads * geometry_.dim;
  means_.emplace(in_.q.device(), std::max<int64_t>(1, 2 * size));
  double* const means = means_->data();
  attentionKeyMeans(runtime, call(), means, means + size);
  const auto center = [&](Tensor& x, const double* by) {
    if (!x) return;
    const Tensor y = madeLike(x);
    attentionCountingKeys(runtime, call(), y, x, by);
    x = y;
  };
  center(in_.k, means);
  center(in_.tk, means + size);
}

NormedGradients::NormedGradients(const AttentionGeometry& geometry, const AttentionGradients& out,
                                 const AttentionOperands& in, bool tangentCotangent)
    : geometry_(geometry), out_(out), inner_(out) {
  if (!geometry.normalize) return;
  inner_.gqWeight = inner_.gkWeight = {};
  const auto need = [&](Tensor& g, Tensor& h, const Tensor& gweight, const Tensor& x, const Tensor& tx) {
    const bool wanted = g || h || gweight;
    const bool moving = tangentCotangent && wanted && (tx || h);
    g = wanted ? madeLike(x) : Tensor();
    h = moving ? madeLike(x) : Tensor();
  };
  need(inner_.gq, inner_.gtq, out.gqWeight, in.q, in.tq);
  need(inner_.gk, inner_.gtk, out.gkWeight, in.k, in.tk);
}

void NormedGradients::finish(const Runtime& runtime, Backend& backend, const AttentionCall& call,
                             const AttentionOperands& in) const {
  if (!geometry_.normalize) return;
  // Keys that do not count may be anything, NaN included, and have no gradient.
  Tensor k = in.k, tk = in.tk;
  if (in.keyLengths && (out_.gk || out_.gtk || out_.gkWeight)) {
    k = madeLike(in.k);
    attentionCountingKeys(runtime, call, k, in.k, nullptr);
    if (tk) attentionCountingKeys(runtime, call, tk = madeLike(in.tk), in.tk, nullptr);
  }
  const auto lead = [&](const Tensor& gx, const Tensor& gtx, const Tensor& gweight, const Tensor& x, const Tensor& tx,
                        const Tensor& weight, const Tensor& g, const Tensor& h) {
    if (!gx && !gtx && !gweight) return;
    backend.normVjp(normLayoutOf(x, geometry_.eps), {gx, gweight, {}, gtx, {}, {}}, {x, weight, {}, tx, {}, {}}, g, h);
  };
  lead(out_.gq, out_.gtq, out_.gqWeight, in.q, in.tq, in.qWeight, inner_.gq, inner_.gtq);
  lead(out_.gk, out_.gtk, out_.gkWeight, k, tk, in.kWeight, inner_.gk, inner_.gtk);
}

}  // namespace flowmap::cuda
