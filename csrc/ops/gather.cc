#include "ops/gather.h"

#include <limits>

#include "core/check.h"
#include "core/launch.h"

namespace flowmap::ops {
namespace {

// x's axis `axis` replaced by the indices' axes.
Shape takenShape(const char* op, const Shape& x, const Shape& indices, int axis) {
  if (x.rank() - 1 + indices.rank() > kMaxRank) {
    fail(ErrorCode::Shape, op, "the result must have at most ", kMaxRank, " axes, got x ", x, " and indices ", indices);
  }
  Shape shape;
  for (int i = 0; i < axis; ++i) shape.push(x[i]);
  for (int64_t size : indices) shape.push(size);
  for (int i = axis + 1; i < x.rank(); ++i) shape.push(x[i]);
  return shape;
}

}  // namespace

Tensor take(const Tensor& x, const Tensor& indices, int64_t axis) {
  checkMinRank("take", "x", x, 1);
  checkDType("take", "indices", indices, DType::Int32);
  checkDevice("take", "indices", indices, x.device());
  const int at = checkAxis("take", "axis", axis, x.rank());
  const Shape shape = takenShape("take", x.shape(), indices.shape(), at);
  checkSizes("take", "the result", shape, x.dtype());
  const Tensor out = Tensor::empty(x.device(), shape, x.dtype());
  launch("take", x.device(), {out}, {x, indices}, [=](Backend& backend) { backend.take(out, x, indices, at); });
  return out;
}

Tensor takeVjp(const Tensor& g, const Tensor& indices, const Shape& shape, int64_t axis) {
  checkFloating("takeVjp", "g", g);
  checkDType("takeVjp", "indices", indices, DType::Int32);
  checkDevice("takeVjp", "indices", indices, g.device());
  checkSizes("takeVjp", "shape", shape, g.dtype());
  const int at = checkAxis("takeVjp", "axis", axis, shape.rank());
  checkShape("takeVjp", "g", g, takenShape("takeVjp", shape, indices.shape(), at));
  const Tensor out = Tensor::empty(g.device(), shape, g.dtype());
  launch("takeVjp", g.device(), {out}, {g, indices}, [=](Backend& backend) { backend.takeVjp(out, g, indices, at); });
  return out;
}

Tensor oneHot(const Tensor& indices, int64_t depth, DType dtype) {
  checkDType("oneHot", "indices", indices, DType::Int32);
  if (depth < 1 || depth > std::numeric_limits<int32_t>::max()) {
    fail(ErrorCode::Argument, "oneHot", "depth must be in [1, 2^31), got ", depth);
  }
  if (indices.rank() == kMaxRank) {
    fail(ErrorCode::Shape, "oneHot", "indices must have at most ", kMaxRank - 1, " axes, got ", indices.shape());
  }
  Shape shape = indices.shape();
  shape.push(depth);
  checkSizes("oneHot", "the result", shape, dtype);
  const Tensor out = Tensor::empty(indices.device(), shape, dtype);
  launch("oneHot", indices.device(), {out}, {indices}, [=](Backend& backend) { backend.oneHot(out, indices); });
  return out;
}

}  // namespace flowmap::ops
