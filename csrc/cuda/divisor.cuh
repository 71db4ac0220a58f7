// Division of 32-bit numbers by one that is known at launch, as a multiplication: kernels take positions apart often.
#pragma once

#include <cstdint>

namespace flowmap::cuda {

constexpr int64_t kMaxDividend = int64_t{1} << 31;

// For dividends below kMaxDividend and divisors of 1 to kMaxDividend: q = (⌊n m / 2^32⌋ + n) / 2^s with
// s = ⌈log2 d⌉ and m = ⌊2^32 (2^s − d) / d⌋ + 1 (Granlund and Montgomery 1994).
struct Divisor {
  uint32_t divisor = 1, multiplier = 1, shift = 0;

  Divisor() = default;
  explicit Divisor(int64_t d) : divisor(static_cast<uint32_t>(d)) {
    while ((uint64_t{1} << shift) < static_cast<uint64_t>(d)) ++shift;
    const uint64_t rest = (uint64_t{1} << shift) - static_cast<uint64_t>(d);
    multiplier = static_cast<uint32_t>((rest << 32) / static_cast<uint64_t>(d) + 1);
  }
#if defined(__CUDACC__)
  __device__ __forceinline__ uint32_t divide(uint32_t n) const { return (__umulhi(n, multiplier) + n) >> shift; }
#endif
};

// Takes a position apart into an index per axis, innermost first: 32-bit multiplications where positions fit them,
// divisions of 64 bits elsewhere.
struct AxisDivisor {
  int64_t size = 1;
  Divisor quick;

  AxisDivisor() = default;
  explicit AxisDivisor(int64_t n) : size(n), quick(n < kMaxDividend ? n : 1) {}
#if defined(__CUDACC__)
  // The index along this axis; `position` becomes what is left for the axes around it.
  __device__ __forceinline__ int64_t take(int64_t& position, bool wide) const {
    if (wide) {
      const int64_t index = position % size;
      position /= size;
      return index;
    }
    const uint32_t n = static_cast<uint32_t>(position), quotient = quick.divide(n);
    position = quotient;
    return n - quotient * quick.divisor;
  }
#endif
};

}  // namespace flowmap::cuda
