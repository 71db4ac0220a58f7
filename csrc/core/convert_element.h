// One element from one type to another, with the rules of every backend: floats to int32 truncate and saturate, NaN
// becomes 0; anything but zero is true; double reaches 16 bits by way of float. The CPU's runs (cpu/convert.cc) say the
// same without branches, for the compiler to vectorise.
#pragma once

#include <cstring>
#include <type_traits>

#include "core/dispatch.h"
#include "core/host_device.h"

namespace flowmap {

template <class To, class From>
FLOWMAP_HOST_DEVICE To convertElement(From x) {
  using Wide = Compute<From>;
  const Wide wide = static_cast<Wide>(x);
  if constexpr (std::is_same_v<To, uint8_t>) {
    return wide != 0;
  } else if constexpr (std::is_same_v<To, int32_t> && std::is_floating_point_v<Wide>) {
    if (wide != wide) return 0;
    if (wide >= Wide(2147483648.0)) return 2147483647;
    return wide <= Wide(-2147483648.0) ? -2147483647 - 1 : static_cast<int32_t>(wide);
  } else {
    return static_cast<To>(static_cast<Compute<To>>(wide));
  }
}

// The bits of `value` as an element of `dtype`, in the first bytes.
inline uint64_t elementBits(DType dtype, double value) {
  uint64_t bits = 0;
  dispatchAll(dtype, [&]<class T>() {
    const T element = convertElement<T>(value);
    std::memcpy(&bits, &element, sizeof(T));
  });
  return bits;
}

}  // namespace flowmap
