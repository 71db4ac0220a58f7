#include "ops/elementwise.h"

#include "core/check.h"
#include "core/launch.h"

namespace flowmap::ops {
namespace {

void checkNumeric(const char* op, const char* argument, const Tensor& x) {
  if (x.dtype() == DType::Bool) {
    fail(ErrorCode::DType, op, argument, " must be float32, float64, bfloat16, float16 or int32, got bool");
  }
}

bool takesIntegers(BinaryOp kind) { return kind != BinaryOp::Div && kind != BinaryOp::Pow; }

bool takesIntegers(UnaryOp kind) {
  return kind == UnaryOp::Neg || kind == UnaryOp::Abs || kind == UnaryOp::Sign || kind == UnaryOp::Square;
}

// A scalar must survive in the dtype it takes; NaN and infinities do in floating types only.
void checkScalar(const char* op, const char* argument, double value, DType dtype) {
  if (dtype == DType::Int32 && !(value == std::trunc(value) && value >= -2147483648.0 && value <= 2147483647.0)) {
    fail(ErrorCode::DType, op, argument, " must be a 32-bit integer beside an int32 tensor, got ", value);
  }
  if (dtype == DType::Bool && value != 0 && value != 1) {
    fail(ErrorCode::DType, op, argument, " must be 0 or 1 beside a bool tensor, got ", value);
  }
}

}  // namespace

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

// The smallest of ops name the tensors they capture: what [=] captures of a constant is one itself, and copied where it
// could be moved.
Tensor unary(const char* op, UnaryOp kind, const Tensor& x) {
  if (kind == UnaryOp::LogicalNot)
    checkDType(op, "x", x, DType::Bool);
  else if (takesIntegers(kind))
    checkNumeric(op, "x", x);
  else
    checkFloating(op, "x", x);
  const Tensor out = Tensor::emptyLike(x);
  launch(op, x.device(), {out}, {x}, [kind, out = out, x = x](Backend& backend) { backend.unary(kind, out, x); });
  return out;
}

Tensor binary(const char* op, BinaryOp kind, const Tensor& a, const Tensor& b) {
  if (takesIntegers(kind))
    checkNumeric(op, "a", a);
  else
    checkFloating(op, "a", a);
  checkLike(op, "b", b, a);
  const Shape shape = broadcastShapes(op, a.shape(), b.shape());
  checkSizes(op, "the result", shape, a.dtype());
  const Tensor out = Tensor::empty(a.device(), shape, a.dtype());
  launch(op, a.device(), {out}, {a, b},
         [kind, out = out, a = a, b = b](Backend& backend) { backend.binary(kind, out, a, b); });
  return out;
}

Tensor binaryScalar(const char* op, BinaryOp kind, const Tensor& x, double value, bool scalarFirst) {
  if (takesIntegers(kind))
    checkNumeric(op, scalarFirst ? "b" : "a", x);
  else
    checkFloating(op, scalarFirst ? "b" : "a", x);
  checkScalar(op, scalarFirst ? "a" : "b", value, x.dtype());
  const Tensor out = Tensor::emptyLike(x);
  launch(op, x.device(), {out}, {x},
         [=, out = out, x = x](Backend& backend) { backend.binaryScalar(kind, out, x, value, scalarFirst); });
  return out;
}

Tensor compare(const char* op, CompareOp kind, const Tensor& a, const Tensor& b) {
  checkLike(op, "b", b, a);
  const Shape shape = broadcastShapes(op, a.shape(), b.shape());
  checkSizes(op, "the result", shape, DType::Bool);
  const Tensor out = Tensor::empty(a.device(), shape, DType::Bool);
  launch(op, a.device(), {out}, {a, b}, [=](Backend& backend) { backend.compare(kind, out, a, b); });
  return out;
}

Tensor compareScalar(const char* op, CompareOp kind, const Tensor& x, double value) {
  const Tensor out = Tensor::empty(x.device(), x.shape(), DType::Bool);
  launch(op, x.device(), {out}, {x}, [=](Backend& backend) { backend.compareScalar(kind, out, x, value); });
  return out;
}

Tensor where(const Tensor& condition, const OptionalTensor& a, const OptionalTensor& b, double aValue, double bValue) {
  checkDType("where", "condition", condition, DType::Bool);
  if (!a && !b) fail(ErrorCode::Argument, "where", "a or b must be a tensor, got two numbers");
  const Tensor& reference = a ? a : b;
  checkDevice("where", a ? "a" : "b", reference, condition.device());
  if (a) checkLike("where", "b", b, a);
  if (!a) checkScalar("where", "a", aValue, reference.dtype());
  if (!b) checkScalar("where", "b", bValue, reference.dtype());
  Shape shape = broadcastShapes("where", condition.shape(), reference.shape());
  if (a && b) shape = broadcastShapes("where", shape, b.shape());
  checkSizes("where", "the result", shape, reference.dtype());
  const Tensor out = Tensor::empty(condition.device(), shape, reference.dtype());
  const Tensor left = a, right = b;
  launch("where", condition.device(), {out}, {condition, left, right},
         [=](Backend& backend) { backend.where(out, condition, left, right, aValue, bValue); });
  return out;
}

Tensor clamp(const Tensor& x, double low, double high) {
  checkNumeric("clamp", "x", x);
  if (!(low <= high)) {
    fail(ErrorCode::Argument, "clamp", "low must be at most high and neither NaN, got ", low, " and ", high);
  }
  const Tensor out = Tensor::emptyLike(x);
  launch("clamp", x.device(), {out}, {x}, [=](Backend& backend) { backend.clamp(out, x, low, high); });
  return out;
}

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  checkSizes("cast", "x", x.shape(), dtype);
  const Tensor out = Tensor::empty(x.device(), x.shape(), dtype);
  launch("cast", x.device(), {out}, {x}, [=](Backend& backend) { backend.cast(out, x); });
  return out;
}

Tensor checkFinite(const Tensor& x, const std::string& what) {
  checkFloating("checkFinite", "x", x);
  const Tensor y = Tensor::emptyLike(x);
  launch("checkFinite", x.device(), {y}, {x}, [=](Backend& backend) { backend.checkFinite(y, x, what); });
  return y;
}

}  // namespace flowmap::ops
