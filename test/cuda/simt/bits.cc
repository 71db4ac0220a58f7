// Moves and bits: mov (with packing), and, or, xor, not, cnot, lop3, shl, shr, shf, bfe, bfi, bfind, brev, clz, popc,
// prmt.
#include <bit>

#include "block.h"
#include "dispatch.h"
#include "symbols.h"

namespace flowmap::simt {
namespace {

void move(Thread& t, const Instruction& i) { t.registers[i.d] = t.registers[i.a]; }

void readClock(Thread& t, const Instruction& i) { t.write<uint64_t>(i.d, t.block->instructions); }

/** A register from a vector: list = parts, count = bits of a part. */
void pack(Thread& t, const Instruction& i) {
  const uint64_t mask = i.count == 64 ? ~0ull : (1ull << i.count) - 1;
  uint64_t value = 0;
  for (int64_t part = 0; part < i.immediate; ++part) {
    value |= (t.registers[i.list[part]] & mask) << (part * i.count);
  }
  t.registers[i.d] = value;
}

void unpack(Thread& t, const Instruction& i) {
  const uint64_t mask = (1ull << i.count) - 1;
  const uint64_t value = t.registers[i.a];
  for (int64_t part = 0; part < i.immediate; ++part) t.registers[i.list[part]] = value >> (part * i.count) & mask;
}

void decodeMove(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  s.expect(s.operands.size() == 2 && type != Type::none && type != Type::b128);
  const bool packs = s.operands[1].kind == Operand::Kind::vector;
  const bool unpacks = s.operands[0].kind == Operand::Kind::vector;
  if (packs || unpacks) {
    s.expect(packs != unpacks);
    std::vector<Slot> parts;
    d.append(s, packs ? 1 : 0, parts);
    i.immediate = int64_t(parts.size());
    i.count = uint32_t(8 * sizeOf(type) / parts.size());
    i.list = d.list(parts);
    if (packs)
      i.d = d.scalar(s, 0);
    else
      i.a = d.scalar(s, 1);
    i.run = packs ? pack : unpack;
    return;
  }
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  i.run = isClock(s.operands[1].name) ? readClock : move;
}

struct And {
  static uint64_t of(uint64_t a, uint64_t b) { return a & b; }
};
struct Or {
  static uint64_t of(uint64_t a, uint64_t b) { return a | b; }
};
struct Xor {
  static uint64_t of(uint64_t a, uint64_t b) { return a ^ b; }
};

template <class Operation, class T>
void logic(Thread& t, const Instruction& i) {
  t.write<T>(i.d, T(Operation::of(t.read<T>(i.a), t.read<T>(i.b))));
}

template <class Operation>
void decodeLogic(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  s.expect(s.operands.size() == 3);
  if (type == Type::pred) {  // negated sources: and.pred p, q, !r
    i.count = uint32_t(s.operands[1].negated) | uint32_t(s.operands[2].negated) << 1;
    s.operands[1].negated = s.operands[2].negated = false;
    i.run = [](Thread& t, const Instruction& i) {
      const uint64_t a = (t.registers[i.a] ^ i.count) & 1, b = (t.registers[i.b] ^ i.count >> 1) & 1;
      t.registers[i.d] = Operation::of(a, b);
    };
  } else {
    withInteger(type, [&]<class T>() { i.run = logic<Operation, T>; });
  }
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
}

template <class T>
void invert(Thread& t, const Instruction& i) {
  t.write<T>(i.d, T(~t.read<T>(i.a)));
}

void decodeNot(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  s.expect(s.operands.size() == 2);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  if (type == Type::pred) i.run = [](Thread& t, const Instruction& i) { t.registers[i.d] = !t.registers[i.a]; };
  withInteger(type, [&]<class T>() { i.run = invert<T>; });
}

/** The table in the immediate has a result bit per combination of the bits of a, b, c. */
void lookUp3(Thread& t, const Instruction& i) {
  const uint32_t a = t.read<uint32_t>(i.a), b = t.read<uint32_t>(i.b), c = t.read<uint32_t>(i.c);
  uint32_t result = 0;
  for (uint32_t entry = 0; entry < 8; ++entry) {
    if (!(i.immediate >> entry & 1)) continue;
    result |= (entry & 4 ? a : ~a) & (entry & 2 ? b : ~b) & (entry & 1 ? c : ~c);
  }
  t.write<uint32_t>(i.d, result);
}

void decodeLookUp3(Statement& s, Decoder& d, Instruction& i) {
  s.expect(s.takeType() == Type::b32 && s.operands.size() == 5 && s.operands[4].constant);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.c = d.scalar(s, 3);
  i.immediate = int64_t(s.operands[4].value & 0xff);
  i.run = lookUp3;
}

// Shift counts are 32-bit and clamp at the width.
template <class T>
void shiftLeft(Thread& t, const Instruction& i) {
  const uint32_t count = t.read<uint32_t>(i.b);
  t.write<T>(i.d, count < 8 * sizeof(T) ? T(uint64_t(t.read<T>(i.a)) << count) : T(0));
}
template <class T>
void shiftRight(Thread& t, const Instruction& i) {
  const uint32_t count = t.read<uint32_t>(i.b);
  const T a = t.read<T>(i.a);
  t.write<T>(i.d, T(count < 8 * sizeof(T) ? a >> count : std::is_signed_v<T> && a < 0 ? T(-1) : T(0)));
}

template <bool left>
void decodeShift(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  s.expect(s.operands.size() == 3);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
  withInteger(type, [&]<class T>() { i.run = left ? shiftLeft<T> : shiftRight<T>; });
}

template <bool left, bool wraps>
void funnelShift(Thread& t, const Instruction& i) {
  const uint64_t both = uint64_t(t.read<uint32_t>(i.b)) << 32 | t.read<uint32_t>(i.a);
  const uint32_t c = t.read<uint32_t>(i.c), count = wraps ? c & 31 : std::min(c, 32u);
  t.write<uint32_t>(i.d, uint32_t(left ? both << count >> 32 : both >> count));
}

void decodeFunnelShift(Statement& s, Decoder& d, Instruction& i) {
  const bool left = s.take("l");
  s.expect(left || s.take("r"));
  const bool wraps = s.take("wrap");
  s.expect(wraps || s.take("clamp"));
  s.expect(s.takeType() == Type::b32 && s.operands.size() == 4);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.c = d.scalar(s, 3);
  i.run = left ? (wraps ? funnelShift<true, true> : funnelShift<true, false>)
               : (wraps ? funnelShift<false, true> : funnelShift<false, false>);
}

template <class T>
void extract(Thread& t, const Instruction& i) {
  constexpr uint32_t bits = 8 * sizeof(T);
  const uint32_t position = t.read<uint8_t>(i.b), length = t.read<uint8_t>(i.c);
  const T a = t.read<T>(i.a);
  T result = 0;
  bool sign = false;
  if (std::is_signed_v<T> && length > 0) sign = a >> std::min(position + length - 1, bits - 1) & 1;
  for (uint32_t bit = 0; bit < bits; ++bit) {
    const bool set = bit < length && position + bit < bits ? bool(a >> (position + bit) & 1) : sign;
    result |= T(set ? std::make_unsigned_t<T>(1) << bit : 0);
  }
  t.write<T>(i.d, result);
}

template <class T>
void insert(Thread& t, const Instruction& i) {
  constexpr uint32_t bits = 8 * sizeof(T);
  const uint32_t position = t.read<uint8_t>(i.c), length = t.read<uint8_t>(i.e);
  const T a = t.read<T>(i.a);
  T result = t.read<T>(i.b);
  for (uint32_t bit = 0; bit < length && position + bit < bits; ++bit) {
    const T mask = T(T(1) << (position + bit));
    result = a >> bit & 1 ? T(result | mask) : T(result & ~mask);
  }
  t.write<T>(i.d, result);
}

void decodeExtract(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  s.expect(s.operands.size() == 4 && sizeOf(type) >= 4);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.c = d.scalar(s, 3);
  withInteger(type, [&]<class T>() { i.run = extract<T>; });
}

void decodeInsert(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  s.expect(s.operands.size() == 5 && (type == Type::b32 || type == Type::b64));
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.c = d.scalar(s, 3), i.e = d.scalar(s, 4);
  i.run = type == Type::b32 ? insert<uint32_t> : insert<uint64_t>;
}

/** Position of the leading bit that differs from the sign; .shiftamt: how far it is from the top. */
template <class T>
void findLeading(Thread& t, const Instruction& i) {
  using U = std::make_unsigned_t<T>;
  const T a = t.read<T>(i.a);
  const U value = std::is_signed_v<T> && a < 0 ? U(~a) : U(a);
  const int leading = std::countl_zero(value), bits = 8 * sizeof(T);
  t.write<uint32_t>(i.d, value == 0 ? ~0u : uint32_t(i.count ? leading : bits - 1 - leading));
}

struct CountLeading {
  template <class T>
  static uint32_t of(T a) {
    return uint32_t(std::countl_zero(a));
  }
};
struct CountOnes {
  template <class T>
  static uint32_t of(T a) {
    return uint32_t(std::popcount(a));
  }
};
struct Reverse {
  template <class T>
  static T of(T a) {
    T result = 0;
    for (size_t bit = 0; bit < 8 * sizeof(T); ++bit) result = T(result << 1 | (a >> bit & 1));
    return result;
  }
};
struct LogicalNot {
  template <class T>
  static T of(T a) {
    return a == 0;
  }
};

template <class Operation, class T>
void unary(Thread& t, const Instruction& i) {
  t.write(i.d, Operation::of(t.read<T>(i.a)));
}

template <class Operation>
void decodeUnary(Statement& s, Decoder& d, Instruction& i) {
  const Type type = s.takeType();
  s.expect(s.operands.size() == 2 && (type == Type::b32 || type == Type::b64));
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  i.run = type == Type::b32 ? unary<Operation, uint32_t> : unary<Operation, uint64_t>;
}

void decodeFindLeading(Statement& s, Decoder& d, Instruction& i) {
  i.count = s.take("shiftamt");
  const Type type = s.takeType();
  s.expect(s.operands.size() == 2 && sizeOf(type) >= 4);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  withInteger(type, [&]<class T>() { i.run = findLeading<T>; });
}

/** Bytes of b:a, chosen by the nibbles of c; a nibble's top bit spreads the byte's sign. */
void permute(Thread& t, const Instruction& i) {
  const uint64_t both = uint64_t(t.read<uint32_t>(i.b)) << 32 | t.read<uint32_t>(i.a);
  const uint32_t c = t.read<uint32_t>(i.c);
  uint32_t result = 0;
  for (int byte = 0; byte < 4; ++byte) {
    const uint32_t nibble = c >> (4 * byte) & 15;
    uint32_t value = both >> (8 * (nibble & 7)) & 0xff;
    if (nibble & 8) value = value & 0x80 ? 0xff : 0;
    result |= value << (8 * byte);
  }
  t.write<uint32_t>(i.d, result);
}

/** The modes with names: c's low bits choose a row of nibbles. */
void permuteByMode(Thread& t, const Instruction& i) {
  static constexpr uint16_t kNibbles[6][4] = {{0x3210, 0x4321, 0x5432, 0x6543},   // f4e
                                              {0x5670, 0x6701, 0x7012, 0x0123},   // b4e
                                              {0x0000, 0x1111, 0x2222, 0x3333},   // rc8
                                              {0x3210, 0x3211, 0x3222, 0x3333},   // ecl
                                              {0x0000, 0x1110, 0x2210, 0x3210},   // ecr
                                              {0x1010, 0x3232, 0x1010, 0x3232}};  // rc16
  const uint64_t both = uint64_t(t.read<uint32_t>(i.b)) << 32 | t.read<uint32_t>(i.a);
  const uint16_t nibbles = kNibbles[i.count][t.read<uint32_t>(i.c) & 3];
  uint32_t result = 0;
  for (int byte = 0; byte < 4; ++byte) {
    result |= uint32_t(both >> (8 * (nibbles >> (4 * byte) & 7)) & 0xff) << (8 * byte);
  }
  t.write<uint32_t>(i.d, result);
}

void decodePermute(Statement& s, Decoder& d, Instruction& i) {
  s.expect(s.takeType() == Type::b32 && s.operands.size() == 4);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.c = d.scalar(s, 3);
  i.run = permute;
  static constexpr const char* kModes[] = {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
  for (uint32_t mode = 0; mode < 6; ++mode) {
    if (s.take(kModes[mode])) i.run = permuteByMode, i.count = mode;
  }
}

}  // namespace

void registerBits(DecodeTable& table) {
  table["mov"] = decodeMove;
  table["and"] = decodeLogic<And>;
  table["or"] = decodeLogic<Or>;
  table["xor"] = decodeLogic<Xor>;
  table["not"] = decodeNot;
  table["cnot"] = decodeUnary<LogicalNot>;
  table["lop3"] = decodeLookUp3;
  table["shl"] = decodeShift<true>;
  table["shr"] = decodeShift<false>;
  table["shf"] = decodeFunnelShift;
  table["bfe"] = decodeExtract;
  table["bfi"] = decodeInsert;
  table["bfind"] = decodeFindLeading;
  table["brev"] = decodeUnary<Reverse>;
  table["clz"] = decodeUnary<CountLeading>;
  table["popc"] = decodeUnary<CountOnes>;
  table["prmt"] = decodePermute;
}

}  // namespace flowmap::simt
