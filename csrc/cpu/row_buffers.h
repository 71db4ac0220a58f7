// Rows of tensors as rows of the type arithmetic is done in: in place for float and double, through a buffer for
// 16-bit floats. One object a thread.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dispatch.h"
#include "cpu/convert.h"

namespace flowmap::cpu {

template <class T>
class RowReader {
 public:
  using C = Compute<T>;
  RowReader(const T* data, int64_t dim) : data_(data), dim_(dim) {
    // What is absent reads as a row of zeros.
    if (dim > 0 && (!data || !std::is_same_v<T, C>)) buffer_.resize(static_cast<size_t>(dim));
  }
  // The row that begins at element `at`.
  const C* operator()(int64_t at) {
    if (!data_) return buffer_.data();
    if constexpr (std::is_same_v<T, C>) {
      return data_ + at;
    } else {
      toFloatRun(buffer_.data(), data_ + at, dim_);
      return buffer_.data();
    }
  }

 private:
  const T* data_;
  int64_t dim_;
  std::vector<C> buffer_;
};

template <class T>
class RowWriter {
 public:
  using C = Compute<T>;
  RowWriter(T* data, int64_t dim) : data_(data), dim_(dim) {
    if (data && !std::is_same_v<T, C>) buffer_.resize(static_cast<size_t>(dim));
  }
  // Where to compute the row that begins at element `at`; null if it is not wanted. Call `finish` with the same `at`.
  C* operator()(int64_t at) {
    if (!data_) return nullptr;
    if constexpr (std::is_same_v<T, C>)
      return data_ + at;
    else
      return buffer_.data();
  }
  void finish(int64_t at) {
    if constexpr (!std::is_same_v<T, C>) {
      if (data_) fromFloatRun(data_ + at, buffer_.data(), dim_);
    }
  }

 private:
  T* data_;
  int64_t dim_;
  std::vector<C> buffer_;
};

}  // namespace flowmap::cpu
