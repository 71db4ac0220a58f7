// The 16-bit formats, and what modifies floating-point operations: rounding, flushing of denormals, saturation.
#pragma once

#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "decoder.h"

namespace flowmap::simt {

enum class Rounding : uint8_t { nearest, zero, down, up, nearestAway };

/** binary16 and bfloat16: storage, with arithmetic in double and one rounding at the end. */
struct Half {
  uint16_t bits;
  static constexpr int kMantissa = 10, kMinExponent = -14, kMaxExponent = 15;
};
struct BFloat {
  uint16_t bits;
  static constexpr int kMantissa = 7, kMinExponent = -126, kMaxExponent = 127;
};
/** Two 16-bit values in one register, the first in the low half. */
template <class T>
struct Pair {
  T low, high;
};
template <class T>
constexpr bool isNarrow = std::is_same_v<T, Half> || std::is_same_v<T, BFloat>;

float toFloat(Half);
inline float toFloat(BFloat value) { return std::bit_cast<float>(uint32_t(value.bits) << 16); }
inline float toFloat(float value) { return value; }
inline double toFloat(double value) { return value; }
/** One rounding; what is too large becomes infinity (or the largest finite value, when rounding towards zero). */
template <class T>
T narrow(double value, Rounding = Rounding::nearest);

constexpr uint32_t kNan32 = 0x7fffffffu;  // the one NaN that f32 operations give
inline float canonical(float x) { return x == x ? x : std::bit_cast<float>(kNan32); }
inline double canonical(double x) { return x; }
inline Half canonical(Half x) { return x; }
inline BFloat canonical(BFloat x) { return x; }

inline float flush(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }
inline double flush(double x) { return x; }
inline Half flush(Half x) { return (x.bits & 0x7c00) ? x : Half{uint16_t(x.bits & 0x8000)}; }
inline BFloat flush(BFloat x) { return x; }
/** [0, 1], with NaN going to 0. */
template <class T>
T saturate(T x) {
  return x > T(0) ? (x < T(1) ? x : T(1)) : T(0);
}

/** The modifiers of one instruction, kept in Instruction::count. */
struct Modes {
  Rounding rounding = Rounding::nearest;
  bool ftz = false, sat = false, relu = false, nan = false;

  bool plain() const { return rounding == Rounding::nearest && !ftz && !sat && !relu; }
  uint32_t packed() const {
    return uint32_t(rounding) | uint32_t(ftz) << 8 | uint32_t(sat) << 9 | uint32_t(relu) << 10 | uint32_t(nan) << 11;
  }
  static Modes of(uint32_t packed) {
    return {Rounding(packed & 0xff), bool(packed >> 8 & 1), bool(packed >> 9 & 1), bool(packed >> 10 & 1),
            bool(packed >> 11 & 1)};
  }
};
/** Takes .rn, .rz, .rm, .rp, .ftz, .sat, .relu and .NaN. */
Modes takeModes(Statement&);

/** The processor's rounding mode, while it lives. */
class RoundingScope {
 public:
  explicit RoundingScope(Rounding);
  ~RoundingScope() {
    if (changed_) std::fesetround(FE_TONEAREST);
  }
  RoundingScope(const RoundingScope&) = delete;

 private:
  bool changed_;
};

/** a·b + c rounded to odd: a second rounding to a narrower format then gives what one rounding would. */
double fusedToOdd(double a, double b, double c);

}  // namespace flowmap::simt
