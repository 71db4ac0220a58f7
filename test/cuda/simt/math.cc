// rcp, sqrt, rsqrt, ex2, lg2, sin, cos, tanh, testp. The approximate forms give the exact value rounded: one of the
// results that the ISA's error bounds allow.
#include <cmath>

#include "block.h"
#include "floats.h"

namespace flowmap::simt {
namespace {

struct Reciprocal {
  static double of(double x) { return 1 / x; }
};
struct SquareRoot {
  static double of(double x) { return std::sqrt(x); }
};
struct ReciprocalRoot {
  static double of(double x) { return x == 0 ? std::copysign(INFINITY, x) : 1 / std::sqrt(x); }
};
struct Power2 {
  static double of(double x) { return std::exp2(x); }
};
struct Logarithm2 {
  static double of(double x) { return x == 0 ? -INFINITY : std::log2(x); }
};
struct Sine {
  static double of(double x) { return std::sin(x); }
};
struct Cosine {
  static double of(double x) { return std::cos(x); }
};
struct Tangent {
  static double of(double x) { return std::tanh(x); }
};

/** f32: the double result rounded once more. For rcp and sqrt that is the correctly rounded one (53 ≥ 2·24 + 2 bits).
 */
template <class Function>
void single(Thread& t, const Instruction& i) {
  const Modes modes = Modes::of(i.count);
  float a = t.read<float>(i.a);
  if (modes.ftz) a = flush(a);
  const double exact = Function::of(double(a));
  float value;
  if (modes.rounding == Rounding::nearest) {
    value = float(exact);
  } else {
    const RoundingScope scope(modes.rounding);
    value = float(exact);
  }
  if (modes.ftz) value = flush(value);
  t.write(i.d, canonical(value));
}

template <class Function>
void wide(Thread& t, const Instruction& i) {
  const RoundingScope scope(Modes::of(i.count).rounding);
  t.write(i.d, Function::of(t.read<double>(i.a)));
}

/** rcp/rsqrt.approx.ftz.f64 work on the high word alone: 20 bits of mantissa, the low word zero. (rsqrt.approx.f64 is
 * precise.) */
template <class Function>
void wideApproximate(Thread& t, const Instruction& i) {
  double a = std::bit_cast<double>(t.read<uint64_t>(i.a) & ~0xffffffffull);
  if (std::fabs(a) < std::numeric_limits<double>::min()) a = std::copysign(0.0, a);
  double value = Function::of(a);
  if (std::fabs(value) < std::numeric_limits<double>::min()) value = std::copysign(0.0, value);
  uint64_t bits = std::bit_cast<uint64_t>(value);
  if (value != value) {
    bits = 0x7fffffff00000000ull;
  } else if (std::isfinite(value)) {
    bits = (bits + 0x80000000ull) & ~0xffffffffull;
  }
  t.write<uint64_t>(i.d, bits);
}

template <class Function, class T>
void narrowMath(Thread& t, const Instruction& i) {
  const Modes modes = Modes::of(i.count);
  T a = t.read<T>(i.a);
  if (modes.ftz) a = flush(a);
  T value = narrow<T>(Function::of(toFloat(a)));
  if (modes.ftz) value = flush(value);
  t.write(i.d, value);
}

template <class Function, class T>
void pairMath(Thread& t, const Instruction& i) {
  const Modes modes = Modes::of(i.count);
  auto a = t.read<Pair<T>>(i.a);
  if (modes.ftz) a = {flush(a.low), flush(a.high)};
  Pair<T> value{narrow<T>(Function::of(toFloat(a.low))), narrow<T>(Function::of(toFloat(a.high)))};
  if (modes.ftz) value = {flush(value.low), flush(value.high)};
  t.write(i.d, value);
}

/** `narrowToo`: the function exists for 16-bit floats (ex2, tanh). */
template <class Function, bool narrowToo = false>
void decodeFunction(Statement& s, Decoder& d, Instruction& i) {
  const bool approximate = s.take("approx");
  const Type type = s.takeType();
  const Modes modes = takeModes(s);
  s.expect(s.operands.size() == 2 && !modes.sat && !modes.relu && !modes.nan);
  i.count = modes.packed();
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  if (type == Type::f32) i.run = single<Function>;
  if (type == Type::f64 && !narrowToo) i.run = approximate && modes.ftz ? wideApproximate<Function> : wide<Function>;
  if constexpr (narrowToo) {
    if (type == Type::f16) i.run = narrowMath<Function, Half>;
    if (type == Type::bf16) i.run = narrowMath<Function, BFloat>;
    if (type == Type::f16x2) i.run = pairMath<Function, Half>;
    if (type == Type::bf16x2) i.run = pairMath<Function, BFloat>;
  }
}

enum class Property : uint32_t { finite, infinite, number, notNumber, normal, subnormal };

template <class T>
void testProperty(Thread& t, const Instruction& i) {
  const T a = t.read<T>(i.a);
  bool result = false;
  switch (Property(i.count)) {
    case Property::finite:
      result = std::isfinite(a);
      break;
    case Property::infinite:
      result = std::isinf(a);
      break;
    case Property::number:
      result = a == a;
      break;
    case Property::notNumber:
      result = a != a;
      break;
    case Property::normal:
      result = std::isnormal(a);
      break;
    case Property::subnormal:
      result = std::fpclassify(a) == FP_SUBNORMAL;
      break;
  }
  t.registers[i.d] = result;
}

void decodeTestProperty(Statement& s, Decoder& d, Instruction& i) {
  static constexpr const char* kNames[] = {"finite", "infinite", "number", "notanumber", "normal", "subnormal"};
  bool known = false;
  for (uint32_t property = 0; property < 6; ++property) {
    if (s.take(kNames[property])) i.count = property, known = true;
  }
  const Type type = s.takeType();
  s.expect(known && s.operands.size() == 2);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  if (type == Type::f32) i.run = testProperty<float>;
  if (type == Type::f64) i.run = testProperty<double>;
}

}  // namespace

void registerMath(DecodeTable& table) {
  table["rcp"] = decodeFunction<Reciprocal>;
  table["sqrt"] = decodeFunction<SquareRoot>;
  table["rsqrt"] = decodeFunction<ReciprocalRoot>;
  table["ex2"] = decodeFunction<Power2, true>;
  table["lg2"] = decodeFunction<Logarithm2>;
  table["sin"] = decodeFunction<Sine>;
  table["cos"] = decodeFunction<Cosine>;
  table["tanh"] = decodeFunction<Tangent, true>;
  table["testp"] = decodeTestProperty;
}

}  // namespace flowmap::simt
