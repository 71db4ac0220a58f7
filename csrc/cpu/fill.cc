// Constant tensors.
#include <algorithm>

#include "core/dispatch.h"
#include "cpu/backend.h"

namespace flowmap::cpu {

void CpuBackend::fill(const Tensor& out, double value) {
  dispatchAll(out.dtype(), [&]<class T>() {
    if constexpr (std::is_same_v<T, uint8_t>) {
      std::fill_n(out.data<T>(), out.numel(), static_cast<T>(value != 0));
    } else {
      std::fill_n(out.data<T>(), out.numel(), static_cast<T>(static_cast<Compute<T>>(value)));
    }
  });
}

}  // namespace flowmap::cpu
