#include "ops/elementwise.h"

#include "core/check.h"
#include "core/launch.h"

namespace flowmap::ops {

Shape broadcastShapes(const char* op, const Shape& a, const Shape& b) {
  const int rank = std::max(a.rank(), b.rank());
  Shape out;
  for (int axis = 0; axis < rank; ++axis) {
    const int aAxis = axis - (rank - a.rank()), bAxis = axis - (rank - b.rank());
    const int64_t aSize = aAxis < 0 ? 1 : a[aAxis], bSize = bAxis < 0 ? 1 : b[bAxis];
    if (aSize != bSize && aSize != 1 && bSize != 1) {
      fail(ErrorCode::Shape, op, "a and b must broadcast to one shape, got ", a, " and ", b);
    }
    out.push(aSize == 1 ? bSize : aSize);
  }
  return out;
}

Tensor unary(const char* op, UnaryOp kind, const Tensor& x) {
  checkFloating(op, "x", x);
  const Tensor out = Tensor::emptyLike(x);
  launch(op, x.device(), {out}, {x}, [=](Backend& backend) { backend.unary(kind, out, x); });
  return out;
}

Tensor binary(const char* op, BinaryOp kind, const Tensor& a, const Tensor& b) {
  checkFloating(op, "a", a);
  checkLike(op, "b", b, a);
  const Shape shape = broadcastShapes(op, a.shape(), b.shape());
  checkSizes(op, "the result", shape, a.dtype());
  const Tensor out = Tensor::empty(a.device(), shape, a.dtype());
  launch(op, a.device(), {out}, {a, b}, [=](Backend& backend) { backend.binary(kind, out, a, b); });
  return out;
}

}  // namespace flowmap::ops
