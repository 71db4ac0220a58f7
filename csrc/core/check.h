// What contracts check, with messages of one form: op, argument, what was expected, what came.
#pragma once

#include <cmath>
#include <initializer_list>

#include "core/tensor.h"

namespace flowmap {

// Refuses negative sizes and element counts whose bytes do not fit; call before Tensor::empty with a caller's shape.
// Sizes beside a 0 must fit as well: a reduction may take the 0 away, and no product of sizes may overflow on the way.
inline void checkSizes(const char* op, const char* argument, const Shape& shape, DType dtype) {
  constexpr int64_t kMaxBytes = int64_t{1} << 52;
  int64_t limit = kMaxBytes / static_cast<int64_t>(itemSize(dtype));
  for (int64_t size : shape) {
    if (size < 0) fail(ErrorCode::Shape, op, argument, " must have sizes of at least 0, got ", shape);
    if (size > limit) fail(ErrorCode::Shape, op, argument, " has more elements than can be addressed: ", shape);
    if (size > 0) limit /= size;
  }
}

inline void checkRank(const char* op, const char* argument, const Tensor& x, int rank) {
  if (x.rank() != rank) fail(ErrorCode::Shape, op, argument, " must have rank ", rank, ", got shape ", x.shape());
}

inline void checkMinRank(const char* op, const char* argument, const Tensor& x, int rank) {
  if (x.rank() < rank) {
    fail(ErrorCode::Shape, op, argument, " must have rank at least ", rank, ", got shape ", x.shape());
  }
}

inline void checkShape(const char* op, const char* argument, const Tensor& x, const Shape& expected) {
  if (!(x.shape() == expected)) {
    fail(ErrorCode::Shape, op, argument, " must have shape ", expected, ", got ", x.shape());
  }
}

inline void checkDType(const char* op, const char* argument, const Tensor& x, DType expected) {
  if (x.dtype() != expected) {
    fail(ErrorCode::DType, op, argument, " must be ", dtypeName(expected), ", got ", dtypeName(x.dtype()));
  }
}

inline void checkFloating(const char* op, const char* argument, const Tensor& x) {
  if (!isFloating(x.dtype())) {
    fail(ErrorCode::DType, op, argument, " must be a floating type (float32, float64, bfloat16, float16), got ",
         dtypeName(x.dtype()));
  }
}

inline void checkDevice(const char* op, const char* argument, const Tensor& x, const Device& expected) {
  if (&x.device() != &expected) {
    fail(ErrorCode::Device, op, argument, " must be on ", expected, ", got a tensor on ", x.device());
  }
}

// `x` agrees with the reference argument in dtype and device. Absent optional tensors pass.
inline void checkLike(const char* op, const char* argument, const Tensor& x, const Tensor& reference) {
  if (!x) return;
  checkDevice(op, argument, x, reference.device());
  checkDType(op, argument, x, reference.dtype());
}

// ... and in shape.
inline void checkSame(const char* op, const char* argument, const Tensor& x, const Tensor& reference) {
  if (!x) return;
  checkLike(op, argument, x, reference);
  checkShape(op, argument, x, reference.shape());
}

// Normalises a possibly negative axis.
inline int checkAxis(const char* op, const char* argument, int64_t axis, int rank) {
  if (axis < -rank || axis >= rank) {
    fail(ErrorCode::Shape, op, argument, " must be an axis in [", -rank, ", ", rank, "), got ", axis);
  }
  return static_cast<int>(axis < 0 ? axis + rank : axis);
}

inline void checkFinite(const char* op, const char* argument, double value) {
  if (!std::isfinite(value)) fail(ErrorCode::Argument, op, argument, " must be a finite number, got ", value);
}

inline void checkPositive(const char* op, const char* argument, double value) {
  if (!(value > 0) || !std::isfinite(value)) {
    fail(ErrorCode::Argument, op, argument, " must be a positive finite number, got ", value);
  }
}

inline void checkNonNegative(const char* op, const char* argument, double value) {
  if (!(value >= 0) || !std::isfinite(value)) {
    fail(ErrorCode::Argument, op, argument, " must be a finite number of at least 0, got ", value);
  }
}

}  // namespace flowmap
