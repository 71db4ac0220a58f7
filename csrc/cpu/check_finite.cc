// A guard on the stream: copies values that are finite, refuses others.
#include <cmath>
#include <cstring>

#include "core/dispatch.h"
#include "cpu/backend.h"

namespace flowmap::cpu {

void CpuBackend::checkFinite(const Tensor& y, const Tensor& x, const std::string& what) {
  const int64_t n = x.numel(), rows = x.rank() == 0 ? 1 : x.shape()[0];
  dispatchFloating(x.dtype(), [&]<class T>() {
    const T* values = x.data<T>();
    for (int64_t i = 0; i < n; ++i) {
      const auto value = static_cast<Compute<T>>(values[i]);
      if (!std::isfinite(value)) {
        fail(ErrorCode::Numerical, "checkFinite", what, " is ", value, " in row ", i / (n / rows));
      }
    }
  });
  if (n) std::memcpy(y.data(), x.data(), x.bytes());
}

}  // namespace flowmap::cpu
