// What JavaScript knows of a tensor, { shape, dtype, device }: frozen, and one object for all that are alike, as a step
// makes hundreds of tensors of a few dozen shapes.
#pragma once

#include <napi.h>

#include <unordered_map>

#include "core/tensor.h"

namespace flowmap::binding {

class Information {
 public:
  // Null where the thread is being terminated and JavaScript makes no objects any more.
  napi_value of(napi_env env, const Tensor& x);

 private:
  struct Key {
    DType dtype;
    const Device* device;
    Shape shape;
    friend bool operator==(const Key& a, const Key& b) {
      return a.dtype == b.dtype && a.device == b.device && a.shape == b.shape;
    }
  };
  struct Hash {
    size_t operator()(const Key& key) const;
  };

  std::unordered_map<Key, Napi::ObjectReference, Hash> made_;
};

}  // namespace flowmap::binding
