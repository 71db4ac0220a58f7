// Memory that one op needs between its kernels. It goes back to the allocator when the host has enqueued them: reuse is
// in the order of the stream.
#pragma once

#include "core/tensor.h"

namespace flowmap::cuda {

template <class T>
class Scratch {
 public:
  Scratch(Device& device, int64_t count)
      : tensor_(Tensor::empty(device, {count * static_cast<int64_t>(sizeof(T))}, DType::Bool)) {
    tensor_.storage()->materialize();
  }
  T* data() const { return tensor_.data<T>(); }

 private:
  Tensor tensor_;
};

}  // namespace flowmap::cuda
