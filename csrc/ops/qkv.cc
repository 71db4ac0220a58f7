// Splitting a fused QKV projection into heads, with RMS normalisation of q and k on the way.
#include "core/check.h"
#include "core/launch.h"
#include "core/norm_args.h"
#include "core/strided.h"
#include "ops/norm.h"

namespace flowmap::ops {
namespace {

struct QkvGeometry {
  int64_t tokens, heads, dim;
  double eps;
  Shape head;  // [B, S, H, d]

  NormLayout layout(int part) const {
    NormLayout layout;
    layout.rows = tokens * heads;
    layout.dim = dim;
    layout.rowsPerGroup = std::max<int64_t>(1, layout.rows);
    layout.rowsPerSegment = std::max<int64_t>(1, heads);
    layout.segmentStride = 3 * heads * dim;
    layout.segmentOffset = part * heads * dim;
    layout.eps = eps;
    return layout;
  }
  // One part of the projection, and a tensor of its own, as [tokens, heads · dim].
  Shape sizes() const { return {tokens, heads * dim}; }
  StridedView inside(int part) const {
    StridedView view;
    view.offset = part * heads * dim;
    view.strides[0] = 3 * heads * dim;
    view.strides[1] = 1;
    return view;
  }
  StridedView alone() const {
    StridedView view;
    view.strides[0] = heads * dim;
    view.strides[1] = 1;
    return view;
  }
};

QkvGeometry checkQkv(const char* op, const Tensor& qkv, const OptionalTensor& qWeight, const OptionalTensor& kWeight,
                     const OptionalTensor& tqkv, const OptionalTensor& tqWeight, const OptionalTensor& tkWeight,
                     int64_t heads, bool normalize, double eps) {
  checkFloating(op, "qkv", qkv);
  checkRank(op, "qkv", qkv, 3);
  if (heads < 1) fail(ErrorCode::Argument, op, "heads must be at least 1, got ", heads);
  if (qkv.shape()[2] % (3 * heads) != 0) {
    fail(ErrorCode::Shape, op, "qkv must have a last size divisible by 3 · heads = ", 3 * heads, ", got ", qkv.shape());
  }
  checkPositive(op, "eps", eps);
  const int64_t dim = qkv.shape()[2] / (3 * heads);
  const auto checkWeight = [&](const char* argument, const OptionalTensor& weight, bool allowed) {
    if (!weight) return;
    if (!allowed) fail(ErrorCode::Argument, op, argument, " must be absent where there is no weight to scale");
    checkLike(op, argument, weight, qkv);
    checkShape(op, argument, weight, {dim});
  };
  checkWeight("qWeight", qWeight, normalize);
  checkWeight("kWeight", kWeight, normalize);
  checkSame(op, "tqkv", tqkv, qkv);
  checkWeight("tqWeight", tqWeight, static_cast<bool>(qWeight));
  checkWeight("tkWeight", tkWeight, static_cast<bool>(kWeight));
  const Shape head{qkv.shape()[0], qkv.shape()[1], heads, dim};
  return {qkv.shape()[0] * qkv.shape()[1], heads, dim, eps, head};
}

}  // namespace

std::tuple<Tensor, Tensor, Tensor> splitQkv(const Tensor& qkv, const OptionalTensor& qWeight,
                                            const OptionalTensor& kWeight, int64_t heads, bool normalize, double eps) {
  const auto [q, k, v, tq, tk, tv] = splitQkvJvp(qkv, qWeight, kWeight, {}, {}, {}, heads, normalize, eps);
  return {q, k, v};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> splitQkvJvp(
    const Tensor& qkv, const OptionalTensor& qWeight, const OptionalTensor& kWeight, const OptionalTensor& tqkv,
    const OptionalTensor& tqWeight, const OptionalTensor& tkWeight, int64_t heads, bool normalize, double eps) {
  const char* op = tqkv || tqWeight || tkWeight ? "splitQkvJvp" : "splitQkv";
  const QkvGeometry geometry = checkQkv(op, qkv, qWeight, kWeight, tqkv, tqWeight, tkWeight, heads, normalize, eps);
  std::array<Tensor, 6> out;
  const std::array<Tensor, 2> weights{qWeight, kWeight}, tweights{tqWeight, tkWeight};
  for (int part = 0; part < 3; ++part) {
    out[part] = Tensor::empty(qkv.device(), geometry.head, qkv.dtype());
    if (tqkv || (part < 2 && tweights[part])) out[part + 3] = Tensor::emptyLike(out[part]);
  }
  launch(op, qkv.device(), {out.begin(), out.end()}, {qkv, qWeight, kWeight, tqkv, tqWeight, tkWeight},
         [=](Backend& backend) {
           for (int part = 0; part < 3; ++part) {
             if (normalize && part < 2) {
               backend.norm(geometry.layout(part), out[part], out[part + 3],
                            {qkv, weights[part], {}, tqkv, tweights[part], {}});
             } else {
               backend.copyStrided(out[part], geometry.alone(), qkv, geometry.inside(part), geometry.sizes());
               if (tqkv) {
                 backend.copyStrided(out[part + 3], geometry.alone(), tqkv, geometry.inside(part), geometry.sizes());
               }
             }
           }
         });
  return {out[0], out[1], out[2], out[3], out[4], out[5]};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> splitQkvJvpVjp(
    const Tensor& qkv, const OptionalTensor& qWeight, const OptionalTensor& kWeight, const OptionalTensor& tqkv,
    const OptionalTensor& tqWeight, const OptionalTensor& tkWeight, const std::vector<OptionalTensor>& cotangents,
    int64_t heads, bool normalize, double eps, const std::vector<int64_t>& needs) {
  const char* op = "splitQkvJvpVjp";
  const QkvGeometry geometry = checkQkv(op, qkv, qWeight, kWeight, tqkv, tqWeight, tkWeight, heads, normalize, eps);
  if (cotangents.size() != 6) fail(ErrorCode::Argument, op, "cotangents must be 6, got ", cotangents.size());
  if (needs.size() != 6) fail(ErrorCode::Argument, op, "needs must be 6, got ", needs.size());
  for (const OptionalTensor& g : cotangents) {
    if (!g) continue;
    checkLike(op, "cotangents", g, qkv);
    checkShape(op, "cotangents", g, geometry.head);
  }
  const auto like = [&](int64_t need, const Tensor& x) { return need && x ? Tensor::emptyLike(x) : Tensor(); };
  const Tensor gqkv = like(needs[0], qkv), gtqkv = like(needs[3], qkv);
  const std::array<Tensor, 2> weights{qWeight, kWeight}, tweights{tqWeight, tkWeight};
  const std::array<Tensor, 2> gweights{like(needs[1], qWeight), like(needs[2], kWeight)};
  const std::array<Tensor, 2> gtweights{like(needs[4], qWeight), like(needs[5], kWeight)};
  std::vector<Tensor> inputs{qkv, qWeight, kWeight, tqkv, tqWeight, tkWeight};
  inputs.insert(inputs.end(), cotangents.begin(), cotangents.end());
  launch(op, qkv.device(), {gqkv, gweights[0], gweights[1], gtqkv, gtweights[0], gtweights[1]}, inputs,
         [=](Backend& backend) {
           const auto put = [&](const Tensor& target, const Tensor& g, int part) {
             if (target && g) backend.copyStrided(target, geometry.inside(part), g, geometry.alone(), geometry.sizes());
           };
           // What no cotangent reaches is zero.
           if (gqkv && !(cotangents[0] && cotangents[1] && cotangents[2])) backend.fill(gqkv, 0);
           if (gtqkv && !(cotangents[3] && cotangents[4] && cotangents[5])) backend.fill(gtqkv, 0);
           for (int part = 0; part < 3; ++part) {
             const Tensor &g = cotangents[part], &h = cotangents[part + 3];
             if (normalize && part < 2) {
               backend.normVjp(geometry.layout(part), {gqkv, gweights[part], {}, gtqkv, gtweights[part], {}},
                               {qkv, weights[part], {}, tqkv, tweights[part], {}}, g, h);
             } else {
               put(gqkv, g, part);
               put(gtqkv, h, part);
             }
           }
         });
  return {gqkv, gweights[0], gweights[1], gtqkv, gtweights[0], gtweights[1]};
}

}  // namespace flowmap::ops
