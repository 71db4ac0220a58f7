// Conversions of the 16-bit formats, bit by bit.
#include "floats.h"

namespace flowmap::simt {

float toFloat(Half value) {
  const uint32_t sign = uint32_t(value.bits & 0x8000) << 16;
  const uint32_t exponent = value.bits >> 10 & 31, mantissa = value.bits & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) {
    const float magnitude = float(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | mantissa << 13);
}

template <class T>
T narrow(double value, Rounding rounding) {
  if (value != value) return T{0x7fff};
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  constexpr uint16_t infinity = uint16_t((2 * T::kMaxExponent + 1) << T::kMantissa);
  if (magnitude == 0) return T{sign};
  if (std::isinf(magnitude)) return T{uint16_t(sign | infinity)};
  int exponent = std::max(std::ilogb(magnitude), T::kMinExponent);
  // In units of the last place of the result: exact, as a power of two only shifts.
  const double units = std::scalbn(magnitude, T::kMantissa - exponent);
  double whole = std::trunc(units);
  const double rest = units - whole;
  bool increment = false;
  switch (rounding) {
    case Rounding::nearest:
      increment = rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2.0) == 1.0);
      break;
    case Rounding::nearestAway:
      increment = rest >= 0.5;
      break;
    case Rounding::zero:
      break;
    case Rounding::down:
      increment = sign && rest > 0;
      break;
    case Rounding::up:
      increment = !sign && rest > 0;
      break;
  }
  // A carry out of the mantissa moves into the exponent by itself; denormals have exponent field 0 and no hidden bit.
  const uint64_t field = uint64_t(exponent - T::kMinExponent) << T::kMantissa;
  const uint64_t bits = field + uint64_t(whole) + (increment ? 1 : 0);
  if (bits < infinity) return T{uint16_t(sign | bits)};
  const bool clamps =
      rounding == Rounding::zero || (rounding == Rounding::down && !sign) || (rounding == Rounding::up && sign);
  return T{uint16_t(sign | (clamps ? infinity - 1 : infinity))};
}

template Half narrow<Half>(double, Rounding);
template BFloat narrow<BFloat>(double, Rounding);

Modes takeModes(Statement& statement) {
  Modes modes;
  if (statement.take("rz"))
    modes.rounding = Rounding::zero;
  else if (statement.take("rm"))
    modes.rounding = Rounding::down;
  else if (statement.take("rp"))
    modes.rounding = Rounding::up;
  else if (statement.take("rna"))
    modes.rounding = Rounding::nearestAway;
  else
    statement.take("rn");
  modes.ftz = statement.take("ftz");
  modes.sat = statement.take("sat");
  modes.relu = statement.take("relu");
  modes.nan = statement.take("NaN");
  return modes;
}

RoundingScope::RoundingScope(Rounding rounding) : changed_(rounding != Rounding::nearest) {
  if (rounding == Rounding::zero) std::fesetround(FE_TOWARDZERO);
  if (rounding == Rounding::down) std::fesetround(FE_DOWNWARD);
  if (rounding == Rounding::up) std::fesetround(FE_UPWARD);
}

double fusedToOdd(double a, double b, double c) {
  const double product = a * b;  // exact for 16-bit and f32 operands
  const double sum = product + c;
  if (!std::isfinite(sum)) return sum;
  const double back = sum - product;
  const double error = (product - (sum - back)) + (c - back);
  if (error == 0 || (std::bit_cast<uint64_t>(sum) & 1)) return sum;
  return std::nextafter(sum, error > 0 ? INFINITY : -INFINITY);
}

}  // namespace flowmap::simt
