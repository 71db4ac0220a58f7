// Splitting a fused QKV projection into heads, with RMS normalisation of q and k on the way.
#include "core/check.h"
#include "core/launch.h"
#include "core/norm_args.h"
#include "ops/norm.h"

namespace flowmap::ops {
namespace {

struct QkvGeometry {
  QkvLayout layout;
  Shape head;  // [B, S, H, d]
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
  return {{qkv.shape()[0] * qkv.shape()[1], heads, dim, normalize, eps}, head};
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
  const std::array<Tensor, 2> tweights{tqWeight, tkWeight};
  for (int part = 0; part < 3; ++part) {
    out[part] = Tensor::empty(qkv.device(), geometry.head, qkv.dtype());
    if (tqkv || (part < 2 && tweights[part])) out[part + 3] = Tensor::emptyLike(out[part]);
  }
  launch(op, qkv.device(), std::vector<Tensor>(out.begin(), out.end()),
         {qkv, qWeight, kWeight, tqkv, tqWeight, tkWeight},
         [out, layout = geometry.layout, in = QkvOperands{qkv, tqkv, {qWeight, kWeight}, {tqWeight, tkWeight}}](
             Backend& backend) { backend.splitQkv(layout, out, in); });
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
  const QkvGradients out{like(needs[0], qkv),
                         like(needs[3], qkv),
                         {like(needs[1], qWeight), like(needs[2], kWeight)},
                         {like(needs[4], qWeight), like(needs[5], kWeight)}};
  const auto& [gqkv, gtqkv, gweights, gtweights] = out;
  std::vector<Tensor> inputs{qkv, qWeight, kWeight, tqkv, tqWeight, tkWeight};
  inputs.insert(inputs.end(), cotangents.begin(), cotangents.end());
  std::array<Tensor, 6> given;
  std::copy(cotangents.begin(), cotangents.end(), given.begin());
  launch(op, qkv.device(), {gqkv, gweights[0], gweights[1], gtqkv, gtweights[0], gtweights[1]}, inputs,
         [out, given, layout = geometry.layout, in = QkvOperands{qkv, tqkv, {qWeight, kWeight}, {tqWeight, tkWeight}}](
             Backend& backend) { backend.splitQkvVjp(layout, out, in, given); });
  return {gqkv, gweights[0], gweights[1], gtqkv, gtweights[0], gtweights[1]};
}

}  // namespace flowmap::ops
