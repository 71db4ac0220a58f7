// A contiguous, row-major tensor: a shape and an element type over reference-counted storage that views share.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"

namespace flowmap {

// Memory is taken when the stream reaches the op that writes it, not when the op is enqueued.
class Storage {
 public:
  Storage(Device& device, size_t bytes) : device_(device), bytes_(bytes) {}
  // Of memory that something else owns: a recording.
  Storage(Device& device, size_t bytes, void* data) : device_(device), bytes_(bytes), data_(data), owned_(false) {}
  ~Storage() {
    if (data_ && owned_) device_.allocator().release(data_, bytes_);
  }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  Device& device() const { return device_; }
  size_t bytes() const { return bytes_; }
  void* data() const { return data_; }
  void materialize() {
    if (!data_) data_ = device_.allocator().allocate(bytes_);
  }
  // Instead of memory of its own, a place in what something else owns: a recording.
  void place(void* data) {
    data_ = data;
    owned_ = false;
  }

  // A job that fails leaves its error here; every op that reads the storage passes it on, and reading it throws it.
  // Touched only on the stream's thread, and by readers after they have synchronised with it.
  const std::shared_ptr<const Error>& error() const { return error_; }
  void setError(std::shared_ptr<const Error> error) { error_ = std::move(error); }

 private:
  Device& device_;
  size_t bytes_;
  void* data_ = nullptr;
  bool owned_ = true;
  std::shared_ptr<const Error> error_;
};

class Tensor {
 public:
  Tensor() = default;  // stands for an absent optional tensor: false in a condition
  Tensor(std::shared_ptr<Storage> storage, Shape shape, DType dtype)
      : storage_(std::move(storage)), shape_(shape), dtype_(dtype) {}

  // Not yet backed by memory. The shape must have been checked (`checkSizes`).
  static Tensor empty(Device& device, const Shape& shape, DType dtype) {
    return {std::make_shared<Storage>(device, static_cast<size_t>(shape.numel()) * itemSize(dtype)), shape, dtype};
  }
  static Tensor emptyLike(const Tensor& x) { return empty(x.device(), x.shape(), x.dtype()); }

  explicit operator bool() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int rank() const { return shape_.rank(); }
  int64_t numel() const { return shape_.numel(); }
  size_t bytes() const { return static_cast<size_t>(numel()) * itemSize(dtype_); }
  DType dtype() const { return dtype_; }
  Device& device() const { return storage_->device(); }
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  Tensor withShape(const Shape& shape) const { return {storage_, shape, dtype_}; }

  // Valid inside a job only; null for an absent tensor.
  template <class T = void>
  T* data() const {
    return storage_ ? static_cast<T*>(storage_->data()) : nullptr;
  }

 private:
  std::shared_ptr<Storage> storage_;
  Shape shape_;
  DType dtype_ = DType::Float32;
};

}  // namespace flowmap
