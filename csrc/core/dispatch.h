// Turns a run-time dtype into a compile-time type: `dispatchFloating(dtype, [&]<class T>() { kernel<T>(...); })`.
#pragma once

#include "core/dtype.h"
#include "core/error.h"

namespace flowmap {

// The type arithmetic is done in.
template <class T>
struct ComputeOf {
  using type = T;
};
template <>
struct ComputeOf<BFloat16> {
  using type = float;
};
template <>
struct ComputeOf<Float16> {
  using type = float;
};
template <class T>
using Compute = typename ComputeOf<T>::type;

template <class Body>
void dispatchFloating(DType dtype, Body body) {
  switch (dtype) {
    case DType::Float32:
      return body.template operator()<float>();
    case DType::Float64:
      return body.template operator()<double>();
    case DType::BFloat16:
      return body.template operator()<BFloat16>();
    case DType::Float16:
      return body.template operator()<Float16>();
    default:
      fail(ErrorCode::Internal, "dispatchFloating", "not a floating type: ", dtypeName(dtype));
  }
}

template <class Body>
void dispatchAll(DType dtype, Body body) {
  switch (dtype) {
    case DType::Int32:
      return body.template operator()<int32_t>();
    case DType::Bool:
      return body.template operator()<uint8_t>();
    default:
      return dispatchFloating(dtype, body);
  }
}

// Calls body with an unsigned integer of the element's width: for kernels that only move elements.
template <class Body>
void dispatchBits(DType dtype, Body body) {
  switch (itemSize(dtype)) {
    case 1:
      return body.template operator()<uint8_t>();
    case 2:
      return body.template operator()<uint16_t>();
    case 4:
      return body.template operator()<uint32_t>();
    default:
      return body.template operator()<uint64_t>();
  }
}

}  // namespace flowmap
