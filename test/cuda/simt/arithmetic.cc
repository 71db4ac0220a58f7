// add, sub, mul, mad, fma, neg, abs, min, max, div, rem, sad, copysign, with carries; setp, set, selp, slct: for
// integers, floats and packed 16-bit floats.
#include <algorithm>
#include <functional>

#include "block.h"
#include "dispatch.h"
#include "floats.h"

namespace flowmap::simt {
namespace {

// ---- one operation on values of one type ----

struct Add {
  template <class T>
  static T of(T a, T b) {
    return T(a + b);
  }
};
struct Subtract {
  template <class T>
  static T of(T a, T b) {
    return T(a - b);
  }
};
struct Multiply {
  template <class T>
  static T of(T a, T b) {
    return T(a * b);
  }
};
struct Divide {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_integral_v<T>) {
      if (b == 0) return T(-1);  // unspecified by the ISA; what the hardware's expansion gives
      if constexpr (std::is_signed_v<T>) {
        if (b == T(-1)) return T(0 - std::make_unsigned_t<T>(a));
      }
    }
    return T(a / b);
  }
};
struct Remainder {
  template <class T>
  static T of(T a, T b) {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>) {
      if (b == T(-1)) return T(0);
    }
    return T(a % b);
  }
};
/** NaN loses against a number; −0 is below +0. */
struct Minimum {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
      if (a != a) return b;
      if (b != b) return a;
      if (a == b) return std::signbit(a) ? a : b;
    }
    return a < b ? a : b;
  }
};
struct Maximum {
  template <class T>
  static T of(T a, T b) {
    if constexpr (std::is_floating_point_v<T>) {
      if (a != a) return b;
      if (b != b) return a;
      if (a == b) return std::signbit(a) ? b : a;
    }
    return a < b ? b : a;
  }
};
struct CopySign {
  template <class T>
  static T of(T a, T b) {
    return std::copysign(b, a);
  }
};

// Integers are computed unsigned where overflow wraps.
template <class Operation, class T>
constexpr bool wraps =
    std::is_integral_v<T> &&
    (std::is_same_v<Operation, Add> || std::is_same_v<Operation, Subtract> || std::is_same_v<Operation, Multiply>);

template <class Operation, class T>
T apply(T a, T b) {
  if constexpr (wraps<Operation, T>) {
    return T(Operation::of(uint64_t(a), uint64_t(b)));
  } else {
    return Operation::of(a, b);
  }
}

template <class Operation, class T>
void binary(Thread& t, const Instruction& i) {
  t.write<T>(i.d, apply<Operation, T>(t.read<T>(i.a), t.read<T>(i.b)));
}

template <class Operation>
void floatBinary(Thread& t, const Instruction& i) {
  t.write(i.d, canonical(Operation::of(t.read<float>(i.a), t.read<float>(i.b))));
}

template <class T>
T finish(T value, Modes modes) {
  if (modes.ftz) value = flush(value);
  if (modes.sat) value = saturate(value);
  return canonical(value);
}

template <class Operation, class T>
[[gnu::noinline]] void binaryWithModes(Thread& t, const Instruction& i) {
  const Modes modes = Modes::of(i.count);
  T a = t.read<T>(i.a), b = t.read<T>(i.b);
  if (modes.ftz) a = flush(a), b = flush(b);
  T value;
  if (modes.nan && (a != a || b != b)) {
    value = std::numeric_limits<T>::quiet_NaN();
  } else {
    const RoundingScope scope(modes.rounding);
    value = Operation::of(a, b);
  }
  t.write(i.d, finish(value, modes));
}

// 16-bit floats: exact enough in double (a product has 22 bits, a sum is corrected to odd), then one rounding.
template <class Operation, class T>
T applyNarrow(T x, T y, Modes modes) {
  if (modes.ftz) x = flush(x), y = flush(y);
  const double a = toFloat(x), b = toFloat(y);
  T result;
  if constexpr (std::is_same_v<Operation, Minimum> || std::is_same_v<Operation, Maximum>) {
    const bool invalid = (a != a && b != b) || (modes.nan && (a != a || b != b));
    result = invalid ? T{0x7fff} : narrow<T>(Operation::of(a, b));
  } else if constexpr (std::is_same_v<Operation, Add>) {
    result = narrow<T>(fusedToOdd(1, a, b), modes.rounding);
  } else if constexpr (std::is_same_v<Operation, Subtract>) {
    result = narrow<T>(fusedToOdd(1, a, -b), modes.rounding);
  } else {
    result = narrow<T>(Operation::of(a, b), modes.rounding);
  }
  if (modes.ftz) result = flush(result);
  if (modes.sat) result = narrow<T>(saturate(double(toFloat(result))));
  return result;
}

template <class Operation, class T>
void binaryNarrow(Thread& t, const Instruction& i) {
  t.write(i.d, applyNarrow<Operation, T>(t.read<T>(i.a), t.read<T>(i.b), Modes::of(i.count)));
}

template <class Operation, class T>
void binaryPair(Thread& t, const Instruction& i) {
  const Modes modes = Modes::of(i.count);
  const auto a = t.read<Pair<T>>(i.a), b = t.read<Pair<T>>(i.b);
  t.write(i.d,
          Pair<T>{applyNarrow<Operation, T>(a.low, b.low, modes), applyNarrow<Operation, T>(a.high, b.high, modes)});
}

/** Chooses among all of the above by the type; `integers` says whether the operation exists for them. */
template <class Operation>
void decodeBinary(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  s.expect(s.operands.size() == 3);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
  if (isFloat(type)) {
    const Modes modes = takeModes(s);
    i.count = modes.packed();
    s.expect(!modes.relu);
    if (type == Type::f32)
      i.run = modes.plain() && !modes.nan ? floatBinary<Operation> : binaryWithModes<Operation, float>;
    if (type == Type::f64) i.run = binaryWithModes<Operation, double>;
    if (type == Type::f64 && modes.plain()) i.run = binary<Operation, double>;
    if (type == Type::f16) i.run = binaryNarrow<Operation, Half>;
    if (type == Type::bf16) i.run = binaryNarrow<Operation, BFloat>;
    if (type == Type::f16x2) i.run = binaryPair<Operation, Half>;
    if (type == Type::bf16x2) i.run = binaryPair<Operation, BFloat>;
  } else {
    withInteger(type, [&]<class T>() { i.run = binary<Operation, T>; });
  }
}

// ---- carries ----

template <class T, bool subtract, bool useCarry>
void carrying(Thread& t, const Instruction& i) {
  using Wide = unsigned __int128;
  const Wide a = t.read<T>(i.a), b = t.read<T>(i.b), carry = useCarry ? t.read<uint64_t>(kCarrySlot) : 0;
  const Wide value = subtract ? a - b - carry : a + b + carry;
  if (i.count) t.write<uint64_t>(kCarrySlot, uint64_t(value >> (8 * sizeof(T))) & 1);
  t.write<T>(i.d, T(value));
}

template <bool subtract>
void decodeCarrying(Statement& s, Decoder& d, Instruction& i, bool useCarry) {
  i.count = s.take("cc");
  const Type type = s.takeType();
  s.expect(s.operands.size() == 3);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
  if (sizeOf(type) == 4) i.run = useCarry ? carrying<uint32_t, subtract, true> : carrying<uint32_t, subtract, false>;
  if (sizeOf(type) == 8) i.run = useCarry ? carrying<uint64_t, subtract, true> : carrying<uint64_t, subtract, false>;
}

/** mad with carries: the low or high half of the product, plus c, plus carry. */
template <class T, bool high, bool useCarry>
void multiplyCarrying(Thread& t, const Instruction& i) {
  using Wide = unsigned __int128;
  using Signed = std::conditional_t<std::is_signed_v<T>, __int128, Wide>;
  using U = std::make_unsigned_t<T>;
  const Signed product = Signed(t.read<T>(i.a)) * Signed(t.read<T>(i.b));
  const U part = U(high ? product >> (8 * sizeof(T)) : product);
  const Wide value = Wide(part) + t.read<U>(i.c) + (useCarry ? t.read<uint64_t>(kCarrySlot) : 0);
  if (i.count) t.write<uint64_t>(kCarrySlot, uint64_t(value >> (8 * sizeof(T))) & 1);
  t.write<T>(i.d, T(U(value)));
}

template <bool useCarry>
void decodeMultiplyCarrying(Statement& s, Decoder& d, Instruction& i) {
  i.count = s.take("cc");
  const bool high = s.take("hi");
  s.expect(high || s.take("lo"));
  const Type type = s.takeType();
  s.expect(s.operands.size() == 4 && sizeOf(type) >= 4);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.c = d.scalar(s, 3);
  withInteger(type, [&]<class T>() {
    i.run = high ? multiplyCarrying<T, true, useCarry> : multiplyCarrying<T, false, useCarry>;
  });
}

void decodeAdd(Statement& s, Decoder& d, Instruction& i) {
  if (std::find(s.modifiers.begin(), s.modifiers.end(), "cc") != s.modifiers.end()) {
    decodeCarrying<false>(s, d, i, false);
  } else {
    decodeBinary<Add>(s, d, i);
  }
}
void decodeSubtract(Statement& s, Decoder& d, Instruction& i) {
  if (std::find(s.modifiers.begin(), s.modifiers.end(), "cc") != s.modifiers.end()) {
    decodeCarrying<true>(s, d, i, false);
  } else {
    decodeBinary<Subtract>(s, d, i);
  }
}

// ---- integer products ----

template <class T>
using Wider = std::conditional_t<sizeof(T) == 8, std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>,
                                 std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>>;

enum class Part { low, high, wide };

template <class T, Part part, bool adds>
void product(Thread& t, const Instruction& i) {
  if constexpr (part == Part::low) {
    const uint64_t value = uint64_t(t.read<T>(i.a)) * uint64_t(t.read<T>(i.b)) + (adds ? uint64_t(t.read<T>(i.c)) : 0);
    t.write<T>(i.d, T(value));
  } else {
    const Wider<T> value = Wider<T>(t.read<T>(i.a)) * Wider<T>(t.read<T>(i.b));
    if constexpr (part == Part::high) {
      const T high = T(value >> (8 * sizeof(T)));
      t.write<T>(i.d, adds ? T(uint64_t(high) + uint64_t(t.read<T>(i.c))) : high);
    } else if constexpr (sizeof(T) == 2) {
      using W = std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>;
      t.write<W>(i.d, W(uint64_t(value) + (adds ? uint64_t(t.read<W>(i.c)) : 0)));
    } else {
      using W = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
      t.write<W>(i.d, W(uint64_t(value) + (adds ? uint64_t(t.read<W>(i.c)) : 0)));
    }
  }
}

template <bool adds>
void decodeProduct(Statement& s, Decoder& d, Instruction& i) {
  const bool wide = s.take("wide"), high = s.take("hi"), low = s.take("lo");
  const Type type = s.takeType();
  s.expect(wide || high || low);
  s.expect(s.operands.size() == (adds ? 4u : 3u));
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
  if (adds) i.c = d.scalar(s, 3);
  withInteger(type, [&]<class T>() {
    if (wide) s.expect(sizeof(T) < 8);
    i.run = wide ? product<T, Part::wide, adds> : high ? product<T, Part::high, adds> : product<T, Part::low, adds>;
  });
}

void decodeMultiply(Statement& s, Decoder& d, Instruction& i) {
  const bool integer = std::any_of(s.modifiers.begin(), s.modifiers.end(),
                                   [](const std::string& m) { return m == "lo" || m == "hi" || m == "wide"; });
  integer ? decodeProduct<false>(s, d, i) : decodeBinary<Multiply>(s, d, i);
}

template <class T>
void sumOfAbsoluteDifferences(Thread& t, const Instruction& i) {
  using U = std::make_unsigned_t<T>;
  const T a = t.read<T>(i.a), b = t.read<T>(i.b);
  t.write<T>(i.d, T(U(t.read<T>(i.c)) + (a < b ? U(U(b) - U(a)) : U(U(a) - U(b)))));
}

void decodeSad(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  s.expect(s.operands.size() == 4);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.c = d.scalar(s, 3);
  withInteger(type, [&]<class T>() { i.run = sumOfAbsoluteDifferences<T>; });
}

// ---- fused multiply-add ----

void fusedFloat(Thread& t, const Instruction& i) {
  t.write(i.d, canonical(std::fma(t.read<float>(i.a), t.read<float>(i.b), t.read<float>(i.c))));
}

template <class T>
[[gnu::noinline]] void fusedWithModes(Thread& t, const Instruction& i) {
  const Modes modes = Modes::of(i.count);
  T a = t.read<T>(i.a), b = t.read<T>(i.b), c = t.read<T>(i.c);
  if (modes.ftz) a = flush(a), b = flush(b), c = flush(c);
  T value;
  {
    const RoundingScope scope(modes.rounding);
    value = std::fma(a, b, c);
  }
  t.write(i.d, finish(value, modes));
}

template <class T>
T fuseNarrow(T a, T b, T c, Modes modes) {
  if (modes.ftz) a = flush(a), b = flush(b), c = flush(c);
  T result = narrow<T>(fusedToOdd(toFloat(a), toFloat(b), toFloat(c)));
  if (modes.ftz) result = flush(result);
  if (modes.relu) {
    const float value = toFloat(result);
    if (value == value && std::signbit(value)) result = T{0};
  }
  if (modes.sat) result = narrow<T>(saturate(double(toFloat(result))));
  return result;
}

template <class T>
void fusedNarrow(Thread& t, const Instruction& i) {
  t.write(i.d, fuseNarrow(t.read<T>(i.a), t.read<T>(i.b), t.read<T>(i.c), Modes::of(i.count)));
}

template <class T>
void fusedPair(Thread& t, const Instruction& i) {
  const Modes modes = Modes::of(i.count);
  const auto a = t.read<Pair<T>>(i.a), b = t.read<Pair<T>>(i.b), c = t.read<Pair<T>>(i.c);
  t.write(i.d, Pair<T>{fuseNarrow(a.low, b.low, c.low, modes), fuseNarrow(a.high, b.high, c.high, modes)});
}

void decodeFused(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  const Modes modes = takeModes(s);
  i.count = modes.packed();
  s.expect(s.operands.size() == 4);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.c = d.scalar(s, 3);
  if (type == Type::f32) i.run = modes.plain() ? fusedFloat : fusedWithModes<float>;
  if (type == Type::f64) i.run = fusedWithModes<double>;
  if (type == Type::f16) i.run = fusedNarrow<Half>;
  if (type == Type::bf16) i.run = fusedNarrow<BFloat>;
  if (type == Type::f16x2) i.run = fusedPair<Half>;
  if (type == Type::bf16x2) i.run = fusedPair<BFloat>;
}

void decodeMad(Statement& s, Decoder& d, Instruction& i) {
  if (std::find(s.modifiers.begin(), s.modifiers.end(), "cc") != s.modifiers.end()) {
    decodeMultiplyCarrying<false>(s, d, i);
  } else if (std::any_of(s.modifiers.begin(), s.modifiers.end(),
                         [](const std::string& m) { return m == "f32" || m == "f64"; })) {
    decodeFused(s, d, i);
  } else {
    decodeProduct<true>(s, d, i);
  }
}

// ---- neg, abs ----

template <class T, bool absolute>
void negate(Thread& t, const Instruction& i) {
  const T a = t.read<T>(i.a);
  if constexpr (std::is_integral_v<T>) {
    const T negative = T(0 - std::make_unsigned_t<T>(a));
    t.write<T>(i.d, absolute && a >= 0 ? a : negative);
  } else {
    T value = absolute ? std::fabs(a) : -a;
    if (i.count) value = flush(value);
    t.write<T>(i.d, canonical(value));
  }
}

/** Sign bits of 16-bit floats: of one, or of both halves. */
template <bool absolute>
void negateBits(Thread& t, const Instruction& i) {
  const uint32_t a = t.read<uint32_t>(i.a), mask = uint32_t(i.immediate);
  t.write<uint32_t>(i.d, absolute ? a & ~mask : a ^ mask);
}

template <bool absolute>
void decodeNegate(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  const bool ftz = s.take("ftz");
  i.count = ftz;
  s.expect(s.operands.size() == 2);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  switch (type) {
    case Type::f32:
      i.run = negate<float, absolute>;
      break;
    case Type::f64:
      i.run = negate<double, absolute>;
      break;
    case Type::f16:
    case Type::bf16:
      s.expect(!ftz);
      i.run = negateBits<absolute>, i.immediate = 0x8000;
      break;
    case Type::f16x2:
    case Type::bf16x2:
      s.expect(!ftz);
      i.run = negateBits<absolute>, i.immediate = 0x80008000;
      break;
    case Type::s16:
      i.run = negate<int16_t, absolute>;
      break;
    case Type::s32:
      i.run = negate<int32_t, absolute>;
      break;
    case Type::s64:
      i.run = negate<int64_t, absolute>;
      break;
    default:
      s.unknown();
  }
}

}  // namespace

void registerArithmetic(DecodeTable& table) {
  table["add"] = decodeAdd;
  table["sub"] = decodeSubtract;
  table["addc"] = [](Statement& s, Decoder& d, Instruction& i) { decodeCarrying<false>(s, d, i, true); };
  table["subc"] = [](Statement& s, Decoder& d, Instruction& i) { decodeCarrying<true>(s, d, i, true); };
  table["madc"] = decodeMultiplyCarrying<true>;
  table["mul"] = decodeMultiply;
  table["mad"] = decodeMad;
  table["fma"] = decodeFused;
  table["min"] = decodeBinary<Minimum>;
  table["max"] = decodeBinary<Maximum>;
  table["rem"] = [](Statement& s, Decoder& d, Instruction& i) {
    const Type type = s.takeType();
    s.expect(s.operands.size() == 3);
    i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
    withInteger(type, [&]<class T>() { i.run = binary<Remainder, T>; });
  };
  table["div"] = [](Statement& s, Decoder& d, Instruction& i) {
    s.take("approx"), s.take("full");  // at most 2 ulp off; the exact quotient is one of the allowed results
    decodeBinary<Divide>(s, d, i);
  };
  table["copysign"] = [](Statement& s, Decoder& d, Instruction& i) {
    const Type type = s.takeType();
    s.expect(s.operands.size() == 3);
    i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
    if (type == Type::f32) i.run = binary<CopySign, float>;
    if (type == Type::f64) i.run = binary<CopySign, double>;
  };
  table["sad"] = decodeSad;
  table["neg"] = decodeNegate<false>;
  table["abs"] = decodeNegate<true>;
}

}  // namespace flowmap::simt
