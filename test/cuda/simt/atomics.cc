// atom and red. Blocks of a kernel with atomics on global memory run one after the other, so plain operations suffice.
#include <algorithm>

#include "block.h"
#include "dispatch.h"
#include "floats.h"

namespace flowmap::simt {
namespace {

struct AtomicAdd {
  template <class T>
  static T of(T old, T b) {
    if constexpr (std::is_integral_v<T>)
      return T(uint64_t(old) + uint64_t(b));
    else if constexpr (isNarrow<T>)
      return narrow<T>(fusedToOdd(1, toFloat(old), toFloat(b)));
    else
      return canonical(T(old + b));
  }
};
struct AtomicMin {
  template <class T>
  static T of(T old, T b) {
    return std::min(old, b);
  }
};
struct AtomicMax {
  template <class T>
  static T of(T old, T b) {
    return std::max(old, b);
  }
};
struct AtomicAnd {
  template <class T>
  static T of(T old, T b) {
    return old & b;
  }
};
struct AtomicOr {
  template <class T>
  static T of(T old, T b) {
    return old | b;
  }
};
struct AtomicXor {
  template <class T>
  static T of(T old, T b) {
    return old ^ b;
  }
};
struct AtomicExchange {
  template <class T>
  static T of(T, T b) {
    return b;
  }
};
struct AtomicIncrement {
  template <class T>
  static T of(T old, T b) {
    return old >= b ? T(0) : T(old + 1);
  }
};
struct AtomicDecrement {
  template <class T>
  static T of(T old, T b) {
    return old == 0 || old > b ? b : T(old - 1);
  }
};

template <class Operation, class T>
void update(Thread& t, const Instruction& i) {
  uint8_t* bytes = t.block->access(t, i, i.space, t.registers[i.a] + i.immediate, sizeof(T), Access::atomic);
  T old;
  std::memcpy(&old, bytes, sizeof old);
  const T fresh = Operation::of(old, t.read<T>(i.b));
  std::memcpy(bytes, &fresh, sizeof fresh);
  t.write<T>(i.d, old);
}

template <class Operation, class T>
void updatePair(Thread& t, const Instruction& i) {
  uint8_t* bytes = t.block->access(t, i, i.space, t.registers[i.a] + i.immediate, 4, Access::atomic);
  Pair<T> old;
  std::memcpy(&old, bytes, sizeof old);
  const auto b = t.read<Pair<T>>(i.b);
  const Pair<T> fresh{Operation::of(old.low, b.low), Operation::of(old.high, b.high)};
  std::memcpy(bytes, &fresh, sizeof fresh);
  t.write(i.d, old);
}

/** Floats side by side, aligned as a whole; each addition is atomic by itself. */
void addVector(Thread& t, const Instruction& i) {
  uint8_t* bytes = t.block->access(t, i, i.space, t.registers[i.a] + i.immediate, 4 * i.count, Access::atomic);
  for (uint32_t element = 0; element < i.count; ++element) {
    float value;
    std::memcpy(&value, bytes + 4 * element, sizeof value);
    value = AtomicAdd::of(value, t.read<float>(i.list[element]));
    std::memcpy(bytes + 4 * element, &value, sizeof value);
  }
}

template <class T>
void compareAndSwap(Thread& t, const Instruction& i) {
  uint8_t* bytes = t.block->access(t, i, i.space, t.registers[i.a] + i.immediate, sizeof(T), Access::atomic);
  T old;
  std::memcpy(&old, bytes, sizeof old);
  const T fresh = t.read<T>(i.c);
  if (old == t.read<T>(i.b)) std::memcpy(bytes, &fresh, sizeof fresh);
  t.write<T>(i.d, old);
}

template <class Operation>
Handler integers(Type type) {
  Handler handler = nullptr;
  withInteger(type, [&]<class T>() {
    if constexpr (sizeof(T) >= 4) handler = update<Operation, T>;
  });
  return handler;
}

Handler handlerOf(Statement& s, Type type, bool noFlush) {
  if (s.take("add")) {
    s.expect(noFlush == (sizeOf(type) == 2 || type == Type::f16x2 || type == Type::bf16x2));
    switch (type) {
      case Type::f32:
        return update<AtomicAdd, float>;
      case Type::f64:
        return update<AtomicAdd, double>;
      case Type::f16:
        return update<AtomicAdd, Half>;
      case Type::bf16:
        return update<AtomicAdd, BFloat>;
      case Type::f16x2:
        return updatePair<AtomicAdd, Half>;
      case Type::bf16x2:
        return updatePair<AtomicAdd, BFloat>;
      default:
        return integers<AtomicAdd>(type);
    }
  }
  if (noFlush || isFloat(type)) return nullptr;
  if (s.take("min")) return integers<AtomicMin>(type);
  if (s.take("max")) return integers<AtomicMax>(type);
  if (s.take("and")) return integers<AtomicAnd>(type);
  if (s.take("or")) return integers<AtomicOr>(type);
  if (s.take("xor")) return integers<AtomicXor>(type);
  if (s.take("exch")) return integers<AtomicExchange>(type);
  if (s.take("inc")) return integers<AtomicIncrement>(type);
  if (s.take("dec")) return integers<AtomicDecrement>(type);
  if (s.take("cas")) {
    if (sizeOf(type) == 2) return compareAndSwap<uint16_t>;
    if (sizeOf(type) == 4) return compareAndSwap<uint32_t>;
    if (sizeOf(type) == 8) return compareAndSwap<uint64_t>;
  }
  return nullptr;
}

/** After `add`: red.global.add.v2.f32 and v4. Of other types, and with a result, unknown. */
void decodeVectorAdd(Statement& s, Decoder& d, Instruction& i) {
  i.count = s.take("v2") ? 2 : s.take("v4") ? 4 : 0;
  s.expect(i.count > 0 && s.takeType() == Type::f32 && s.operands.size() == 2 && i.space == Space::global);
  d.address(s, 0, i.a, i.immediate);
  std::vector<Slot> slots;
  d.append(s, 1, slots);
  s.expect(slots.size() == i.count);
  i.list = d.list(slots);
  i.run = addVector;
  d.kernel().ordered = true;
}

template <bool returns>
void decodeAtomic(Statement& s, Decoder& d, Instruction& i) {
  for (const char* order : {"relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys", "cluster"}) s.take(order);
  if (s.take("global"))
    i.space = Space::global;
  else if (s.take("shared") || s.take("shared::cta"))
    i.space = Space::shared;
  else if (s.take("shared::cluster"))
    i.space = Space::cluster;
  if (!returns && s.operands.size() == 2 && s.operands[1].kind == Operand::Kind::vector) {
    s.expect(s.take("add"));
    return decodeVectorAdd(s, d, i);
  }
  const bool noFlush = s.take("noftz");
  const Type type = s.takeType();
  i.run = handlerOf(s, type, noFlush);
  const size_t first = returns ? 1 : 0;
  s.expect(s.operands.size() >= first + 2 && s.operands.size() <= first + 3);
  if (returns && s.operands[0].kind != Operand::Kind::sink) i.d = d.scalar(s, 0);
  d.address(s, first, i.a, i.immediate);
  i.b = d.scalar(s, first + 1);
  if (s.operands.size() == first + 3) i.c = d.scalar(s, first + 2);
  if (i.space != Space::shared && i.space != Space::cluster) d.kernel().ordered = true;
}

}  // namespace

void registerAtomics(DecodeTable& table) {
  table["atom"] = decodeAtomic<true>;
  table["red"] = decodeAtomic<false>;
}

}  // namespace flowmap::simt
