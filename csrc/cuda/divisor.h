// Division by a number that is known at launch, as a multiplication: kernels take positions apart often, and a GPU has
// no instruction for it.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace flowmap::cuda {

// q = (⌊n m / 2^w⌋ + n) / 2^s with s = ⌈log2 d⌉ and m = ⌊2^w (2^s − d) / d⌋ + 1 (Granlund and Montgomery 1994), for
// words of w = 64 bits and n below 2^63, or where all n are below 2^31 and so is d, of 32.
class Divisor {
 public:
  Divisor() = default;
  // `most`: no dividend is larger.
  Divisor(int64_t divisor, int64_t most) : divisor_(divisor), wide_(most >> 31 || divisor >> 31) {
    const auto d = static_cast<unsigned __int128>(divisor);
    while ((static_cast<unsigned __int128>(1) << shift_) < d) ++shift_;
    const unsigned __int128 rest = (static_cast<unsigned __int128>(1) << shift_) - d;
    multiplier_ = static_cast<uint64_t>((rest << (wide_ ? 64 : 32)) / d + 1);
  }
  FLOWMAP_HOST_DEVICE int64_t divide(int64_t n) const {
    if (wide_) {
      const uint64_t value = static_cast<uint64_t>(n);
      return static_cast<int64_t>((high64(value, multiplier_) + value) >> shift_);
    }
    const uint32_t value = static_cast<uint32_t>(n);
    const uint32_t high = static_cast<uint32_t>((uint64_t{value} * static_cast<uint32_t>(multiplier_)) >> 32);
    return (high + value) >> shift_;
  }
  // The remainder; `n` becomes the quotient.
  FLOWMAP_HOST_DEVICE int64_t take(int64_t& n) const {
    const int64_t whole = n;
    n = divide(whole);
    return whole - n * divisor_;
  }

 private:
  FLOWMAP_HOST_DEVICE static uint64_t high64(uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH__)
    return __umul64hi(a, b);
#else
    return static_cast<uint64_t>((static_cast<unsigned __int128>(a) * b) >> 64);
#endif
  }

  int64_t divisor_ = 1;
  uint64_t multiplier_ = 1;
  uint32_t shift_ = 0;
  bool wide_ = false;
};

}  // namespace flowmap::cuda
