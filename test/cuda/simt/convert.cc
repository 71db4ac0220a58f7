// cvt: between integers, floats and 16-bit floats, with rounding, saturation, flushing and relu; tf32.
#include <algorithm>

#include "block.h"
#include "dispatch.h"
#include "floats.h"

namespace flowmap::simt {
namespace {

// Beyond Modes, in Instruction::count: rounding to an integral value (.rni…), and .satfinite.
constexpr uint32_t kIntegral = 1u << 16, kSatFinite = 1u << 17;

template <class T>
constexpr bool isInteger = std::is_integral_v<T>;

double toIntegral(double value, Rounding rounding) {
  switch (rounding) {
    case Rounding::zero:
      return std::trunc(value);
    case Rounding::down:
      return std::floor(value);
    case Rounding::up:
      return std::ceil(value);
    default:
      return std::nearbyint(value);
  }
}

/** Out-of-range values clamp; NaN is 0 for 32 bits, and the top bit alone where 64 bits take part. */
template <class D, class S>
D toInteger(S value, Rounding rounding) {
  if (value != value) {
    const bool wide = std::is_same_v<S, double> || sizeof(D) == 8;
    return wide ? D(std::make_unsigned_t<D>(1) << (8 * sizeof(D) - 1)) : D(0);
  }
  const double whole = toIntegral(double(value), rounding);
  constexpr double top = std::is_signed_v<D> ? 0x1p-1 : 1.0;
  const double limit = std::ldexp(top, 8 * sizeof(D));  // first value that is too large
  if (whole >= limit) return std::numeric_limits<D>::max();
  if (whole < (std::is_signed_v<D> ? -limit : 0.0)) return std::numeric_limits<D>::min();
  return D(whole);
}

template <class D, class S>
D clamp(S value) {
  using Wide = __int128;
  return D(std::clamp<Wide>(Wide(value), Wide(std::numeric_limits<D>::min()), Wide(std::numeric_limits<D>::max())));
}

template <class T>
T relu(T value) {
  if constexpr (isNarrow<T>) {
    const float x = toFloat(value);
    return x == x && std::signbit(x) ? T{0} : value;
  } else {
    return value < 0 ? T(0) : value;
  }
}

template <class D>
D satFinite(D value) {
  constexpr uint16_t infinity = uint16_t((2 * D::kMaxExponent + 1) << D::kMantissa);
  return (value.bits & 0x7fff) == infinity ? D{uint16_t((value.bits & 0x8000) | (infinity - 1))} : value;
}

template <class D, class S>
D convertTo(S source, uint32_t count) {
  const Modes modes = Modes::of(count);
  if constexpr (isInteger<S> && isInteger<D>) {
    return modes.sat ? clamp<D>(source) : D(source);
  } else if constexpr (isInteger<D>) {
    if (modes.ftz) source = flush(source);
    return toInteger<D>(toFloat(source), modes.rounding);
  } else if constexpr (isNarrow<D>) {
    D result;
    if constexpr (isInteger<S>) {
      // 64-bit integers are rounded to odd in double first; 32-bit ones are exact.
      double value = double(source);
      if constexpr (sizeof(S) == 8) {
        const __int128 error = __int128(source) - __int128(value);
        if (error != 0 && !(std::bit_cast<uint64_t>(value) & 1))
          value = std::nextafter(value, error > 0 ? INFINITY : -INFINITY);
      }
      result = narrow<D>(value, modes.rounding);
    } else {
      if (modes.ftz) source = flush(source);
      double value = toFloat(source);
      if (count & kIntegral) value = toIntegral(value, modes.rounding);
      result = narrow<D>(value, modes.rounding);
    }
    if (modes.sat) result = narrow<D>(saturate(double(toFloat(result))));
    if (modes.relu) result = relu(result);
    if (count & kSatFinite) result = satFinite(result);
    return result;
  } else {
    D result;
    if constexpr (isInteger<S>) {
      const RoundingScope scope(modes.rounding);
      result = D(source);
    } else {
      if (modes.ftz) source = flush(source);
      if (count & kIntegral) {
        result = D(toIntegral(double(toFloat(source)), modes.rounding));
      } else {
        const RoundingScope scope(modes.rounding);
        result = D(toFloat(source));
      }
      if (modes.ftz) result = flush(result);
    }
    if (modes.sat) result = saturate(result);
    if (modes.relu) result = relu(result);
    return canonical(result);
  }
}

template <class D, class S>
[[gnu::noinline]] void convert(Thread& t, const Instruction& i) {
  t.write<D>(i.d, convertTo<D>(t.read<S>(i.a), i.count));
}

/** Two f32 into one register: the first source becomes the high half. */
template <class T>
void convertPair(Thread& t, const Instruction& i) {
  t.write(i.d, Pair<T>{convertTo<T>(t.read<float>(i.b), i.count), convertTo<T>(t.read<float>(i.a), i.count)});
}

/** The common bfloat16 cases, without a detour through double. */
uint16_t toBFloat(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  return value == value ? uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16) : 0x7fff;
}
void convertToBFloat(Thread& t, const Instruction& i) { t.registers[i.d] = toBFloat(t.read<float>(i.a)); }
void convertToBFloatPair(Thread& t, const Instruction& i) {
  t.registers[i.d] = uint32_t(toBFloat(t.read<float>(i.a))) << 16 | toBFloat(t.read<float>(i.b));
}

/** tf32 keeps 10 bits of mantissa in a 32-bit register. */
void convertToTf32(Thread& t, const Instruction& i) {
  const float value = t.read<float>(i.a);
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if (value != value) {
    bits = kNan32;
  } else if (!std::isinf(value)) {
    const bool away = Modes::of(i.count).rounding == Rounding::nearestAway;
    bits += away ? 0x1000 : 0xfff + (bits >> 13 & 1);
    bits &= ~0x1fffu;
  }
  t.write<uint32_t>(i.d, bits);
}

template <class Function>
void withAny(Type type, Function&& function) {
  withInteger(type, function);
  if (type == Type::u8 || type == Type::b8) function.template operator()<uint8_t>();
  if (type == Type::s8) function.template operator()<int8_t>();
  if (type == Type::f32) function.template operator()<float>();
  if (type == Type::f64) function.template operator()<double>();
  if (type == Type::f16) function.template operator()<Half>();
  if (type == Type::bf16) function.template operator()<BFloat>();
}

void decodeConvert(Statement& s, Decoder& d, Instruction& i) {
  uint32_t count = 0;
  Rounding rounding = Rounding::nearest;
  static constexpr std::pair<const char*, Rounding> kIntegralModes[] = {
      {"rni", Rounding::nearest}, {"rzi", Rounding::zero}, {"rmi", Rounding::down}, {"rpi", Rounding::up}};
  for (const auto& [name, mode] : kIntegralModes) {
    if (s.take(name)) count |= kIntegral, rounding = mode;
  }
  if (s.take("satfinite")) count |= kSatFinite;
  const Type to = s.takeType(), from = s.takeType();
  Modes modes = takeModes(s);
  if (count & kIntegral) modes.rounding = rounding;
  i.count = count | modes.packed();
  s.expect(!modes.nan && s.operands.size() >= 2);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  if (to == Type::f16x2 || to == Type::bf16x2) {
    s.expect(s.operands.size() == 3 && from == Type::f32);
    i.b = d.scalar(s, 2);
    i.run = to == Type::f16x2 ? convertPair<Half> : convertPair<BFloat>;
    if (to == Type::bf16x2 && i.count == 0) i.run = convertToBFloatPair;
    return;
  }
  s.expect(s.operands.size() == 2);
  if (to == Type::tf32) {
    s.expect(from == Type::f32 && !modes.relu && !(count & kSatFinite));
    i.run = convertToTf32;
    return;
  }
  if (to == Type::bf16 && from == Type::f32 && i.count == 0) {
    i.run = convertToBFloat;
    return;
  }
  s.expect(!(count & kSatFinite) || sizeOf(to) == 2);
  withAny(to, [&]<class D>() { withAny(from, [&]<class S>() { i.run = convert<D, S>; }); });
}

}  // namespace

void registerConversions(DecodeTable& table) { table["cvt"] = decodeConvert; }

}  // namespace flowmap::simt
