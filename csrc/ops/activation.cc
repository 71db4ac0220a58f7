#include "ops/activation.h"

#include "core/check.h"
#include "core/launch.h"

namespace flowmap::ops {

Tensor activation(const char* op, ActivationOp kind, const Tensor& x) {
  checkFloating(op, "x", x);
  const Tensor y = Tensor::emptyLike(x);
  launch(op, x.device(), {y}, {x}, [=](Backend& backend) { backend.activation(kind, y, {}, x, {}); });
  return y;
}

std::tuple<Tensor, Tensor> activationJvp(const char* op, ActivationOp kind, const Tensor& x, const Tensor& tx) {
  checkFloating(op, "x", x);
  checkSame(op, "tx", tx, x);
  const Tensor y = Tensor::emptyLike(x), ty = Tensor::emptyLike(x);
  launch(op, x.device(), {y, ty}, {x, tx}, [=](Backend& backend) { backend.activation(kind, y, ty, x, tx); });
  return {y, ty};
}

std::tuple<Tensor, Tensor> activationJvpVjp(const char* op, ActivationOp kind, const Tensor& x,
                                            const OptionalTensor& tx, const OptionalTensor& g, const OptionalTensor& h,
                                            bool needX, bool needTx) {
  checkFloating(op, "x", x);
  checkSame(op, "tx", tx, x);
  checkSame(op, "g", g, x);
  checkSame(op, "h", h, x);
  if (!g && !h) fail(ErrorCode::Argument, op, "at least one of g and h must be given");
  const Tensor gx = needX ? Tensor::emptyLike(x) : Tensor(), gtx = needTx ? Tensor::emptyLike(x) : Tensor();
  launch(op, x.device(), {gx, gtx}, {x, tx, g, h},
         [=](Backend& backend) { backend.activationVjp(kind, gx, gtx, x, tx, g, h); });
  return {gx, gtx};
}

}  // namespace flowmap::ops
