// setp, set, selp, slct: for integers, floats and packed 16-bit floats.
#include <optional>

#include "block.h"
#include "dispatch.h"
#include "floats.h"

namespace flowmap::simt {
namespace {

enum class Compare : uint8_t { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };
enum class Combine : uint8_t { none, conjunction, disjunction, exclusive };

std::optional<Compare> takeComparison(Statement& s) {
  // lo, ls, hi, hs are the unsigned spellings.
  static constexpr std::pair<const char*, Compare> kAll[] = {
      {"eq", Compare::eq},   {"ne", Compare::ne},   {"lt", Compare::lt},   {"le", Compare::le},   {"gt", Compare::gt},
      {"ge", Compare::ge},   {"equ", Compare::equ}, {"neu", Compare::neu}, {"ltu", Compare::ltu}, {"leu", Compare::leu},
      {"gtu", Compare::gtu}, {"geu", Compare::geu}, {"num", Compare::num}, {"nan", Compare::nan}, {"lo", Compare::lt},
      {"ls", Compare::le},   {"hi", Compare::gt},   {"hs", Compare::ge}};
  for (const auto& [name, comparison] : kAll) {
    if (s.take(name)) return comparison;
  }
  return std::nullopt;
}

template <Compare comparison, class T>
bool holds(T a, T b) {
  const bool unordered = a != a || b != b;
  switch (comparison) {
    case Compare::eq:
      return a == b;
    case Compare::ne:
      return !unordered && a != b;
    case Compare::lt:
      return a < b;
    case Compare::le:
      return a <= b;
    case Compare::gt:
      return a > b;
    case Compare::ge:
      return a >= b;
    case Compare::equ:
      return unordered || a == b;
    case Compare::neu:
      return a != b;
    case Compare::ltu:
      return unordered || a < b;
    case Compare::leu:
      return unordered || a <= b;
    case Compare::gtu:
      return unordered || a > b;
    case Compare::geu:
      return unordered || a >= b;
    case Compare::num:
      return !unordered;
    case Compare::nan:
      return unordered;
  }
}

/** 16-bit floats are compared as the f32 they stand for. */
template <Compare comparison, class T>
bool compare(Thread& t, const Instruction& i, bool ftz) {
  T a = t.read<T>(i.a), b = t.read<T>(i.b);
  if constexpr (!std::is_integral_v<T>) {
    if (ftz) a = flush(a), b = flush(b);
    return holds<comparison>(toFloat(a), toFloat(b));
  } else {
    return holds<comparison>(a, b);
  }
}

// Instruction::count of the general form: ftz, combination, whether the third operand is negated.
constexpr uint32_t kFtz = 1, kNegated = 2, kCombineShift = 8;

bool combined(const Thread& t, const Instruction& i, bool value) {
  const bool other = t.read<uint8_t>(i.c) != bool(i.count & kNegated);
  switch (Combine(i.count >> kCombineShift)) {
    case Combine::none:
      return value;
    case Combine::conjunction:
      return value && other;
    case Combine::disjunction:
      return value || other;
    case Combine::exclusive:
      return value != other;
  }
  return value;
}

template <Compare comparison, class T>
void setPredicate(Thread& t, const Instruction& i) {
  t.registers[i.d] = compare<comparison, T>(t, i, false);
}

template <Compare comparison, class T>
void setPredicates(Thread& t, const Instruction& i) {
  const bool value = compare<comparison, T>(t, i, i.count & kFtz);
  const bool first = combined(t, i, value), second = combined(t, i, !value);
  t.registers[i.d] = first;
  t.registers[i.p] = second;
}

template <Compare comparison, class T>
void setPair(Thread& t, const Instruction& i) {
  auto a = t.read<Pair<T>>(i.a), b = t.read<Pair<T>>(i.b);
  if (i.count & kFtz) a = {flush(a.low), flush(a.high)}, b = {flush(b.low), flush(b.high)};
  const bool first = combined(t, i, holds<comparison>(toFloat(a.low), toFloat(b.low)));
  const bool second = combined(t, i, holds<comparison>(toFloat(a.high), toFloat(b.high)));
  t.registers[i.d] = first;
  t.registers[i.p] = second;
}

/** set: 1.0 or 0.0 for float destinations, all ones or 0 for integers; `immediate` is what true is written as. */
template <Compare comparison, class T>
void setValue(Thread& t, const Instruction& i) {
  t.write<uint32_t>(i.d, combined(t, i, compare<comparison, T>(t, i, i.count & kFtz)) ? uint32_t(i.immediate) : 0);
}

template <Compare comparison, class T>
void setValuePair(Thread& t, const Instruction& i) {
  const auto a = t.read<Pair<T>>(i.a), b = t.read<Pair<T>>(i.b);
  const uint32_t yes = uint32_t(i.immediate) & 0xffff;
  const bool low = holds<comparison>(toFloat(a.low), toFloat(b.low));
  const bool high = holds<comparison>(toFloat(a.high), toFloat(b.high));
  t.write<uint32_t>(i.d, (low ? yes : 0) | (high ? yes << 16 : 0));
}

template <class Function>
void withComparison(Compare comparison, Function&& function) {
  const auto each = [&]<int... index>(std::integer_sequence<int, index...>) {
    ((comparison == Compare(index) ? function.template operator()<Compare(index)>() : void()), ...);
  };
  each(std::make_integer_sequence<int, 14>());
}

/** Types that are compared, as template arguments; packed ones are the caller's. */
template <class Function>
void withComparable(Type type, Function&& function) {
  withInteger(type, function);
  if (type == Type::f32) function.template operator()<float>();
  if (type == Type::f64) function.template operator()<double>();
  if (type == Type::f16) function.template operator()<Half>();
  if (type == Type::bf16) function.template operator()<BFloat>();
}

uint32_t takeCombination(Statement& s, Decoder& d, Instruction& i) {
  Combine combine = Combine::none;
  if (s.take("and"))
    combine = Combine::conjunction;
  else if (s.take("or"))
    combine = Combine::disjunction;
  else if (s.take("xor"))
    combine = Combine::exclusive;
  uint32_t flags = s.take("ftz") ? kFtz : 0;
  if (combine != Combine::none) {
    s.expect(s.operands.size() == 4);
    if (s.operands[3].negated) flags |= kNegated;
    s.operands[3].negated = false;
    i.c = d.scalar(s, 3);
  } else {
    s.expect(s.operands.size() == 3);
  }
  return flags | uint32_t(combine) << kCombineShift;
}

void decodeSetPredicate(Statement& s, Decoder& d, Instruction& i) {
  const auto comparison = takeComparison(s);
  s.expect(comparison.has_value());
  const Type type = s.takeType();
  i.count = takeCombination(s, d, i);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
  const bool two = s.operands[0].hasPredicate;
  if (two) i.p = s.operands[0].predicate;
  // With one predicate, whatever becomes of the second result must not disturb a register.
  withComparison(*comparison, [&]<Compare c>() {
    withComparable(type, [&]<class T>() {
      // ne of integers has no unordered case: same function.
      i.run = i.count == 0 && !two ? setPredicate<c, T> : setPredicates<c, T>;
    });
    if (type == Type::f16x2) i.run = setPair<c, Half>;
    if (type == Type::bf16x2) i.run = setPair<c, BFloat>;
  });
}

void decodeSet(Statement& s, Decoder& d, Instruction& i) {
  const auto comparison = takeComparison(s);
  s.expect(comparison.has_value());
  const Type result = s.takeType();
  Type type = s.takeType();
  if (type == Type::none) type = result;
  i.count = takeCombination(s, d, i);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
  switch (result) {
    case Type::f32:
      i.immediate = std::bit_cast<uint32_t>(1.0f);
      break;
    case Type::f16:
    case Type::f16x2:
      i.immediate = 0x3c00;
      break;
    case Type::bf16:
    case Type::bf16x2:
      i.immediate = 0x3f80;
      break;
    case Type::u16:
    case Type::s16:
      i.immediate = 0xffff;
      break;
    case Type::u32:
    case Type::s32:
      i.immediate = 0xffffffff;
      break;
    default:
      s.unknown();
  }
  withComparison(*comparison, [&]<Compare c>() {
    withComparable(type, [&]<class T>() { i.run = setValue<c, T>; });
    if (type == Type::f16x2) i.run = setValuePair<c, Half>;
    if (type == Type::bf16x2) i.run = setValuePair<c, BFloat>;
  });
}

void select(Thread& t, const Instruction& i) { t.registers[i.d] = t.registers[t.registers[i.c] ? i.a : i.b]; }

void decodeSelect(Statement& s, Decoder& d, Instruction& i) {
  s.expect(s.takeType() != Type::none && s.operands.size() == 4);
  const bool swapped = s.operands[3].negated;
  s.operands[3].negated = false;
  i.d = d.scalar(s, 0), i.a = d.scalar(s, swapped ? 2 : 1), i.b = d.scalar(s, swapped ? 1 : 2), i.c = d.scalar(s, 3);
  i.run = select;
}

template <class T>
void selectBySign(Thread& t, const Instruction& i) {
  T c = t.read<T>(i.c);
  if constexpr (std::is_same_v<T, float>) {
    if (i.count) c = flush(c);
  }
  t.registers[i.d] = t.registers[c >= 0 ? i.a : i.b];
}

void decodeSelectBySign(Statement& s, Decoder& d, Instruction& i) {
  i.count = s.take("ftz");
  s.expect(s.takeType() != Type::none && s.operands.size() == 4);
  const Type sign = s.takeType();
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.c = d.scalar(s, 3);
  if (sign == Type::s32) i.run = selectBySign<int32_t>;
  if (sign == Type::f32) i.run = selectBySign<float>;
}

}  // namespace

void registerComparisons(DecodeTable& table) {
  table["setp"] = decodeSetPredicate;
  table["set"] = decodeSet;
  table["selp"] = decodeSelect;
  table["slct"] = decodeSelectBySign;
}

}  // namespace flowmap::simt
