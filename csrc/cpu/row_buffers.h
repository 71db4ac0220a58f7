// Rows of tensors as rows of the type arithmetic is done in: in place for float and double, through a buffer for
// 16-bit floats and for what is written past the caches. One object a thread; it has room for some rows at once.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dispatch.h"
#include "cpu/convert.h"
#include "cpu/streaming.h"

namespace flowmap::cpu {

template <class T>
class RowReader {
 public:
  using C = Compute<T>;
  RowReader(const T* data, int64_t dim, int64_t atOnce = 1) : data_(data), dim_(dim) {
    // What is absent reads as a row of zeros.
    if (dim > 0 && (!data || !std::is_same_v<T, C>)) buffer_.resize(static_cast<size_t>(data ? dim * atOnce : dim));
  }
  // The row that begins at element `at`.
  const C* operator()(int64_t at) { return (*this)(at, dim_); }
  // `count` elements of one, at most dim.
  const C* operator()(int64_t at, int64_t count) { return read(at, count, buffer_.data()); }
  // The row as the `index`-th of those that are there at once.
  const C* nth(int64_t index, int64_t at) { return read(at, dim_, buffer_.data() + index * dim_); }
  // Where the row is in memory; null if it is absent.
  const char* address(int64_t at) const { return data_ ? reinterpret_cast<const char*>(data_ + at) : nullptr; }

 private:
  const C* read(int64_t at, int64_t count, C* buffer) {
    if (!data_) return buffer_.data();
    if constexpr (std::is_same_v<T, C>) {
      return data_ + at;
    } else {
      toFloatRun(buffer, data_ + at, count);
      return buffer;
    }
  }

  const T* data_;
  int64_t dim_;
  std::vector<C> buffer_;
};

template <class T>
class RowWriter {
 public:
  using C = Compute<T>;
  RowWriter(T* data, int64_t dim, bool streamed = false, int64_t atOnce = 1)
      : data_(data), dim_(dim), streamed_(data && streamed) {
    if (data && (kNarrow || streamed)) buffer_.resize(static_cast<size_t>(dim * atOnce));
    if (kNarrow && streamed_) narrow_.resize(static_cast<size_t>(dim));
  }
  ~RowWriter() {
    if (streamed_) finishStreams();
  }
  RowWriter(const RowWriter&) = delete;
  RowWriter& operator=(const RowWriter&) = delete;
  // Where to compute the row that begins at element `at`; null if it is not wanted. Call `finish` with the same `at`.
  C* operator()(int64_t at) { return nth(0, at); }
  void finish(int64_t at) { finish(at, dim_); }
  void finish(int64_t at, int64_t count) { write(at, count, buffer_.data()); }
  // The same for the `index`-th of the rows that are there at once.
  C* nth(int64_t index, int64_t at) {
    if (!data_) return nullptr;
    if constexpr (!kNarrow) {
      if (!streamed_) return data_ + at;
    }
    return buffer_.data() + index * dim_;
  }
  void finishNth(int64_t index, int64_t at) { write(at, dim_, buffer_.data() + index * dim_); }

 private:
  void write(int64_t at, int64_t count, const C* row) {
    if (!data_) return;
    const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
    if constexpr (kNarrow) {
      fromFloatRun(streamed_ ? narrow_.data() : data_ + at, row, count);
      if (streamed_) streamRun(data_ + at, narrow_.data(), bytes);
    } else {
      if (streamed_) streamRun(data_ + at, row, bytes);
    }
  }

  static constexpr bool kNarrow = !std::is_same_v<T, C>;
  T* data_;
  int64_t dim_;
  bool streamed_;
  std::vector<C> buffer_;
  std::vector<T> narrow_;
};

}  // namespace flowmap::cpu
