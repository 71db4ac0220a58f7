#include "ops/matmul.h"

#include "core/check.h"
#include "core/launch.h"
#include "ops/elementwise.h"

namespace flowmap::ops {
namespace {

Shape leading(const Shape& shape, int dropped) {
  Shape result;
  for (int axis = 0; axis < shape.rank() - dropped; ++axis) result.push(shape[axis]);
  return result;
}

Shape withLast(const Shape& shape, int64_t last) {
  Shape result = leading(shape, 1);
  result.push(last);
  return result;
}

void checkLinear(const char* op, const Tensor& x, const Tensor& weight) {
  checkFloating(op, "x", x);
  checkMinRank(op, "x", x, 1);
  checkLike(op, "weight", weight, x);
  checkRank(op, "weight", weight, 2);
  if (weight.shape()[1] != x.shape()[-1]) {
    fail(ErrorCode::Shape, op, "weight must have shape [out, ", x.shape()[-1], "] for x of shape ", x.shape(), ", got ",
         weight.shape());
  }
}

void checkBias(const char* op, const char* argument, const OptionalTensor& bias, const Tensor& weight) {
  if (!bias) return;
  checkLike(op, argument, bias, weight);
  checkShape(op, argument, bias, {weight.shape()[0]});
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, bool transposeA, bool transposeB) {
  const char* op = "matmul";
  checkFloating(op, "a", a);
  checkMinRank(op, "a", a, 2);
  checkLike(op, "b", b, a);
  checkMinRank(op, "b", b, 2);
  const int64_t m = a.shape()[transposeA ? -1 : -2], k = a.shape()[transposeA ? -2 : -1];
  const int64_t n = b.shape()[transposeB ? -2 : -1], bk = b.shape()[transposeB ? -1 : -2];
  if (k != bk) {
    fail(ErrorCode::Shape, op, "the inner sizes must agree, got ", k, " and ", bk, " for a ", a.shape(),
         transposeA ? " (transposed)" : "", " and b ", b.shape(), transposeB ? " (transposed)" : "");
  }
  Shape shape = broadcastShapes(op, leading(a.shape(), 2), leading(b.shape(), 2));
  shape.push(m);
  shape.push(n);
  checkSizes(op, "the result", shape, a.dtype());
  const Tensor out = Tensor::empty(a.device(), shape, a.dtype());
  launch(op, a.device(), {out}, {a, b}, [=](Backend& backend) { backend.matmul(out, a, b, transposeA, transposeB); });
  return out;
}

Tensor linear(const Tensor& x, const Tensor& weight, const OptionalTensor& bias) {
  const char* op = "linear";
  checkLinear(op, x, weight);
  checkBias(op, "bias", bias, weight);
  const Shape shape = withLast(x.shape(), weight.shape()[0]);
  checkSizes(op, "the result", shape, x.dtype());
  const Tensor y = Tensor::empty(x.device(), shape, x.dtype());
  launch(op, x.device(), {y}, {x, weight, bias},
         [=](Backend& backend) { backend.linearJvp(y, {}, x, weight, bias, {}, {}, {}); });
  return y;
}

std::tuple<Tensor, Tensor> linearJvp(const Tensor& x, const Tensor& weight, const OptionalTensor& bias,
                                     const OptionalTensor& tx, const OptionalTensor& tweight,
                                     const OptionalTensor& tbias) {
  const char* op = "linearJvp";
  checkLinear(op, x, weight);
  checkBias(op, "bias", bias, weight);
  checkSame(op, "tx", tx, x);
  checkSame(op, "tweight", tweight, weight);
  checkBias(op, "tbias", tbias, weight);
  if (!tx && !tweight && !tbias) fail(ErrorCode::Argument, op, "at least one of tx, tweight, tbias must be given");
  const Shape shape = withLast(x.shape(), weight.shape()[0]);
  checkSizes(op, "the result", shape, x.dtype());
  const Tensor y = Tensor::empty(x.device(), shape, x.dtype());
  const Tensor ty = Tensor::emptyLike(y);
  launch(op, x.device(), {y, ty}, {x, weight, bias, tx, tweight, tbias},
         [=](Backend& backend) { backend.linearJvp(y, ty, x, weight, bias, tx, tweight, tbias); });
  return {y, ty};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> linearJvpVjp(
    const Tensor& x, const Tensor& weight, const OptionalTensor& tx, const OptionalTensor& tweight,
    const OptionalTensor& g, const OptionalTensor& h, bool needX, bool needWeight, bool needBias, bool needTx,
    bool needTweight, bool needTbias) {
  const char* op = "linearJvpVjp";
  checkLinear(op, x, weight);
  checkSame(op, "tx", tx, x);
  checkSame(op, "tweight", tweight, weight);
  const Shape shape = withLast(x.shape(), weight.shape()[0]);
  for (const auto& [argument, cotangent] : {std::pair{"g", g}, std::pair{"h", h}}) {
    if (!cotangent) continue;
    checkLike(op, argument, cotangent, x);
    checkShape(op, argument, cotangent, shape);
  }
  if (!g && !h) fail(ErrorCode::Argument, op, "at least one of g and h must be given");
  const auto like = [](bool need, const Tensor& t) { return need ? Tensor::emptyLike(t) : Tensor(); };
  const auto biasLike = [&](bool need) {
    return need ? Tensor::empty(x.device(), {weight.shape()[0]}, x.dtype()) : Tensor();
  };
  const Tensor gx = like(needX, x), gweight = like(needWeight, weight), gbias = biasLike(needBias);
  const Tensor gtx = like(needTx, x), gtweight = like(needTweight, weight), gtbias = biasLike(needTbias);
  launch(op, x.device(), {gx, gweight, gbias, gtx, gtweight, gtbias}, {x, weight, tx, tweight, g, h},
         [=](Backend& backend) {
           backend.linearJvpVjp(gx, gweight, gbias, gtx, gtweight, gtbias, x, weight, tx, tweight, g, h);
         });
  return {gx, gweight, gbias, gtx, gtweight, gtbias};
}

void allowTf32(Device& device, bool allowed) {
  Recording::refuse("setMatmulPrecision", "replays keep the precision of the recording; set it before the step");
  device.stream().enqueue(makeJob([&device, allowed]() noexcept { device.backend().allowTf32(allowed); }));
}

}  // namespace flowmap::ops
