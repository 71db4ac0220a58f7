#include "ops/shape.h"

#include "core/check.h"
#include "core/launch.h"

namespace flowmap::ops {
namespace {

// The whole result is one walk over x.
Tensor launchCopy(const char* op, const Tensor& x, const Shape& shape, const StridedView& view) {
  checkSizes(op, "the result", shape, x.dtype());
  const Tensor out = Tensor::empty(x.device(), shape, x.dtype());
  launch(op, x.device(), {out}, {x},
         [=](Backend& backend) { backend.copyStrided(out, contiguousView(shape), x, view, shape); });
  return out;
}

void checkOnePerAxis(const char* op, const char* argument, size_t count, int rank) {
  if (count != static_cast<size_t>(rank)) {
    fail(ErrorCode::Shape, op, argument, " must have one entry per axis (", rank, "), got ", count);
  }
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  Shape out = shape;
  int free = -1;
  int64_t known = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == -1 && free < 0) {
      free = axis;
      continue;
    }
    if (shape[axis] < 0) {
      fail(ErrorCode::Shape, "reshape", "shape must have sizes of at least 0 and at most one -1, got ", shape);
    }
    if (__builtin_mul_overflow(known, shape[axis], &known)) {
      fail(ErrorCode::Shape, "reshape", "shape must have the ", x.numel(), " elements of x ", x.shape(), ", got ",
           shape);
    }
  }
  if (free >= 0) {
    if (known == 0 || x.numel() % known != 0) {
      fail(ErrorCode::Shape, "reshape", "shape must divide the ", x.numel(), " elements of x ", x.shape(), ", got ",
           shape);
    }
    out[free] = x.numel() / known;
  } else if (known != x.numel()) {
    fail(ErrorCode::Shape, "reshape", "shape must have the ", x.numel(), " elements of x ", x.shape(), ", got ", shape);
  }
  checkSizes("reshape", "shape", out, x.dtype());
  return x.withShape(out);
}

Tensor copy(const Tensor& x) { return launchCopy("copy", x, x.shape(), contiguousView(x.shape())); }

Tensor permute(const Tensor& x, const std::vector<int64_t>& axes) {
  checkOnePerAxis("permute", "axes", axes.size(), x.rank());
  const StridedView own = contiguousView(x.shape());
  std::array<bool, kMaxRank> seen{};
  Shape shape;
  StridedView view;
  bool moves = false;
  int last = -1;  // the order of axes of size 1 does not matter
  for (int i = 0; i < x.rank(); ++i) {
    const int axis = checkAxis("permute", "axes", axes[i], x.rank());
    if (seen[axis]) fail(ErrorCode::Shape, "permute", "axes must be distinct, got ", axes[i], " again");
    seen[axis] = true;
    shape.push(x.shape()[axis]);
    view.strides[i] = own.strides[axis];
    if (x.shape()[axis] != 1) {
      moves = moves || axis < last;
      last = axis;
    }
  }
  return moves ? launchCopy("permute", x, shape, view) : x.withShape(shape);
}

Tensor slice(const Tensor& x, const std::vector<int64_t>& begin, const std::vector<int64_t>& end,
             const std::vector<int64_t>& step) {
  checkOnePerAxis("slice", "begin", begin.size(), x.rank());
  checkOnePerAxis("slice", "end", end.size(), x.rank());
  checkOnePerAxis("slice", "step", step.size(), x.rank());
  StridedView view = contiguousView(x.shape());
  Shape shape;
  for (int axis = 0; axis < x.rank(); ++axis) {
    const int64_t size = x.shape()[axis];
    if (step[axis] < 1) fail(ErrorCode::Argument, "slice", "step must be at least 1, got ", step[axis]);
    const auto clip = [size](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + size : at, 0, size); };
    const int64_t first = clip(begin[axis]), last = clip(end[axis]);
    shape.push(last > first ? (last - first - 1) / step[axis] + 1 : 0);
    view.offset += first * view.strides[axis];
    // A step beyond the axis is never taken; its product with the stride might not fit.
    view.strides[axis] *= std::min(step[axis], std::max<int64_t>(size, 1));
  }
  if (shape == x.shape()) return x;
  return launchCopy("slice", x, shape, view);
}

Tensor sliceVjp(const Tensor& g, const Shape& shape, const std::vector<int64_t>& begin,
                const std::vector<int64_t>& step) {
  checkRank("sliceVjp", "g", g, shape.rank());
  checkOnePerAxis("sliceVjp", "begin", begin.size(), shape.rank());
  checkOnePerAxis("sliceVjp", "step", step.size(), shape.rank());
  checkSizes("sliceVjp", "shape", shape, g.dtype());
  StridedView view = contiguousView(shape);
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const int64_t count = g.shape()[axis];
    const int64_t first = begin[axis] < 0 ? begin[axis] + shape[axis] : begin[axis];
    if (step[axis] < 1) fail(ErrorCode::Argument, "sliceVjp", "step must be at least 1, got ", step[axis]);
    if (count > 0 && (first < 0 || first >= shape[axis] || count - 1 > (shape[axis] - 1 - first) / step[axis])) {
      fail(ErrorCode::Shape, "sliceVjp", "g must have the shape of a slice of ", shape, ", got ", g.shape());
    }
    if (count > 0) view.offset += first * view.strides[axis];
    view.strides[axis] *= std::min(step[axis], std::max<int64_t>(shape[axis], 1));
  }
  const Tensor out = Tensor::empty(g.device(), shape, g.dtype());
  launch("sliceVjp", g.device(), {out}, {g}, [=](Backend& backend) {
    backend.fill(out, 0);
    backend.copyStrided(out, view, g, contiguousView(g.shape()), g.shape());
  });
  return out;
}

std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes, int64_t axis) {
  const int along = checkAxis("split", "axis", axis, x.rank());
  int64_t left = x.shape()[along];
  for (int64_t size : sizes) {
    if (size < 0 || size > left) {
      fail(ErrorCode::Shape, "split", "sizes must be at least 0 and add up to ", x.shape()[along], ", got ", size,
           " where ", left, " were left");
    }
    left -= size;
  }
  if (left != 0) {
    fail(ErrorCode::Shape, "split", "sizes must add up to ", x.shape()[along], ", got ", x.shape()[along] - left);
  }
  if (sizes.size() == 1) return {x};
  std::vector<Tensor> parts;
  for (int64_t size : sizes) {
    Shape shape = x.shape();
    shape[along] = size;
    parts.push_back(Tensor::empty(x.device(), shape, x.dtype()));
  }
  launch("split", x.device(), parts, {x}, [=](Backend& backend) {
    StridedView view = contiguousView(x.shape());
    for (const Tensor& part : parts) {
      backend.copyStrided(part, contiguousView(part.shape()), x, view, part.shape());
      view.offset += part.shape()[along] * view.strides[along];
    }
  });
  return parts;
}

Tensor concat(const std::vector<Tensor>& tensors, int64_t axis) {
  if (tensors.empty()) fail(ErrorCode::Argument, "concat", "tensors must hold at least one tensor, got none");
  const Tensor& first = tensors[0];
  const int at = checkAxis("concat", "axis", axis, first.rank());
  Shape shape = first.shape();
  shape[at] = 0;
  for (const Tensor& x : tensors) {
    checkLike("concat", "tensors", x, first);
    checkRank("concat", "tensors", x, first.rank());
    for (int i = 0; i < shape.rank(); ++i) {
      if (i != at && x.shape()[i] != shape[i]) {
        fail(ErrorCode::Shape, "concat", "tensors must agree but along axis ", at, ", got ", first.shape(), " and ",
             x.shape());
      }
    }
    shape[at] += x.shape()[at];
  }
  checkSizes("concat", "the result", shape, first.dtype());
  const Tensor out = Tensor::empty(first.device(), shape, first.dtype());
  launch("concat", first.device(), {out}, tensors, [=](Backend& backend) {
    StridedView view = contiguousView(shape);
    for (const Tensor& x : tensors) {
      backend.copyStrided(out, view, x, contiguousView(x.shape()), x.shape());
      view.offset += x.shape()[at] * view.strides[at];
    }
  });
  return out;
}

Tensor pad(const Tensor& x, const std::vector<int64_t>& before, const std::vector<int64_t>& after, double value) {
  checkOnePerAxis("pad", "before", before.size(), x.rank());
  checkOnePerAxis("pad", "after", after.size(), x.rank());
  constexpr int64_t kMost = int64_t{1} << 52;  // their sum is checked below
  Shape shape;
  for (int axis = 0; axis < x.rank(); ++axis) {
    if (before[axis] < 0 || after[axis] < 0 || before[axis] > kMost || after[axis] > kMost) {
      fail(ErrorCode::Shape, "pad", "before and after must be sizes of at least 0, got ", before[axis], " and ",
           after[axis], " for axis ", axis);
    }
    shape.push(before[axis] + x.shape()[axis] + after[axis]);
  }
  checkSizes("pad", "the result", shape, x.dtype());
  StridedView view = contiguousView(shape);
  for (int axis = 0; axis < x.rank(); ++axis) view.offset += before[axis] * view.strides[axis];
  const Tensor out = Tensor::empty(x.device(), shape, x.dtype());
  launch("pad", x.device(), {out}, {x}, [=](Backend& backend) {
    backend.fill(out, value);
    backend.copyStrided(out, view, x, contiguousView(x.shape()), x.shape());
  });
  return out;
}

Tensor broadcastTo(const Tensor& x, const Shape& shape) {
  const StridedView own = contiguousView(x.shape());
  const int extra = shape.rank() - x.rank();
  checkSizes("broadcastTo", "shape", shape, x.dtype());
  if (extra < 0) fail(ErrorCode::Shape, "broadcastTo", "x must broadcast to ", shape, ", got shape ", x.shape());
  StridedView view;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const int from = axis - extra;
    if (from >= 0 && x.shape()[from] != 1 && x.shape()[from] != shape[axis]) {
      fail(ErrorCode::Shape, "broadcastTo", "x must broadcast to ", shape, ", got shape ", x.shape());
    }
    view.strides[axis] = from < 0 || x.shape()[from] == 1 ? 0 : own.strides[from];
  }
  if (shape == x.shape()) return x;
  if (shape.numel() == x.numel()) return x.withShape(shape);
  return launchCopy("broadcastTo", x, shape, view);
}

Tensor flip(const Tensor& x, const std::vector<int64_t>& axes) {
  StridedView view = contiguousView(x.shape());
  std::array<bool, kMaxRank> seen{};
  for (int64_t given : axes) {
    const int axis = checkAxis("flip", "axes", given, x.rank());
    if (seen[axis]) fail(ErrorCode::Shape, "flip", "axes must be distinct, got ", given, " again");
    seen[axis] = true;
    if (x.shape()[axis] > 0) view.offset += (x.shape()[axis] - 1) * view.strides[axis];
    view.strides[axis] = -view.strides[axis];
  }
  return launchCopy("flip", x, x.shape(), view);
}

}  // namespace flowmap::ops
