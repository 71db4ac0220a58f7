// Marks, in a contract's signature, a tensor that may be absent: JavaScript's null or undefined.
#pragma once

#include "core/tensor.h"

namespace flowmap {

class OptionalTensor : public Tensor {
 public:
  OptionalTensor() = default;
  OptionalTensor(Tensor tensor) : Tensor(std::move(tensor)) {}  // implicit: any tensor will do
};

}  // namespace flowmap
