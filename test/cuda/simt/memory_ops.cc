// ld, ldu, st in all spaces, with vectors and cache modifiers; cvta, isspacep, prefetch, discard.
#include <optional>

#include "block.h"
#include "dispatch.h"

namespace flowmap::simt {
namespace {

/** State space of a memory instruction, from its modifiers; generic when none is named. */
Space takeSpace(Statement& s) {
  if (s.take("global")) return Space::global;
  if (s.take("shared") || s.take("shared::cta")) return Space::shared;
  if (s.take("shared::cluster")) return Space::cluster;
  if (s.take("local")) return Space::local;
  if (s.take("param") || s.take("param::entry") || s.take("param::func")) return Space::parameter;
  if (s.take("const")) return Space::constant;
  return Space::generic;
}

/** Caching and eviction hints, and orderings that an interpreter that runs one thread at a time gives anyway. */
void takeHints(Statement& s) {
  static constexpr const char* kHints[] = {"ca",      "cg",  "cs",       "lu",   "cv",      "wb",
                                           "wt",      "nc",  "volatile", "weak", "relaxed", "acquire",
                                           "release", "cta", "gpu",      "sys",  "cluster", "mmio"};
  for (const char* hint : kHints) s.take(hint);
  std::erase_if(s.modifiers, [](const std::string& m) {
    return m.starts_with("L1::") || (m.starts_with("L2::") && m != "L2::cache_hint");
  });
}

template <class T, Space space>
void load(Thread& t, const Instruction& i) {
  T value;
  std::memcpy(&value, t.block->access(t, i, space, t.registers[i.a] + i.immediate, sizeof(T), Access::read),
              sizeof value);
  t.write<T>(i.d, value);
}

template <class T, Space space>
void loadVector(Thread& t, const Instruction& i) {
  const uint8_t* bytes =
      t.block->access(t, i, space, t.registers[i.a] + i.immediate, uint32_t(sizeof(T) * i.count), Access::read);
  for (uint32_t element = 0; element < i.count; ++element) {
    T value;
    std::memcpy(&value, bytes + element * sizeof(T), sizeof value);
    t.write<T>(i.list[element], value);
  }
}

template <class T, Space space>
void store(Thread& t, const Instruction& i) {
  const T value = t.read<T>(i.b);
  std::memcpy(t.block->access(t, i, space, t.registers[i.a] + i.immediate, sizeof(T), Access::write), &value,
              sizeof value);
}

template <class T, Space space>
void storeVector(Thread& t, const Instruction& i) {
  uint8_t* bytes =
      t.block->access(t, i, space, t.registers[i.a] + i.immediate, uint32_t(sizeof(T) * i.count), Access::write);
  for (uint32_t element = 0; element < i.count; ++element) {
    const T value = t.read<T>(i.list[element]);
    std::memcpy(bytes + element * sizeof(T), &value, sizeof value);
  }
}

/** Parameters of the kernel are never written; parameters of inlined functions are local memory. */
template <class T>
void loadParameter(Thread& t, const Instruction& i) {
  const uint8_t* bytes = t.block->launch.parameters.data() + t.registers[i.a] + i.immediate;
  if (i.count <= 1) {
    T value;
    std::memcpy(&value, bytes, sizeof value);
    t.write<T>(i.d, value);
    return;
  }
  for (uint32_t element = 0; element < i.count; ++element) {
    T value;
    std::memcpy(&value, bytes + element * sizeof(T), sizeof value);
    t.write<T>(i.list[element], value);
  }
}

/** Registers' bits move unchanged: only the width, and the sign for extension, matter. */
template <class Function>
void withAccessType(Type type, Function&& function) {
  if (sizeOf(type) == 1)
    isSigned(type) ? function.template operator()<int8_t>() : function.template operator()<uint8_t>();
  else
    withWidth(sizeOf(type), isSigned(type), function);
}

template <class Function>
void withSpace(Space space, Function&& function) {
  switch (space) {
    case Space::generic:
      function.template operator()<Space::generic>();
      break;
    case Space::constant:
    case Space::global:
      function.template operator()<Space::global>();
      break;
    case Space::shared:
      function.template operator()<Space::shared>();
      break;
    case Space::cluster:
      function.template operator()<Space::cluster>();
      break;
    case Space::local:
      function.template operator()<Space::local>();
      break;
    case Space::parameter:
      break;
  }
}

uint32_t takeVector(Statement& s) {
  if (s.take("v2")) return 2;
  if (s.take("v4")) return 4;
  if (s.take("v8")) return 8;
  return 1;
}

void decodeLoad(Statement& s, Decoder& d, Instruction& i) {
  i.space = takeSpace(s);
  takeHints(s);
  i.count = takeVector(s);
  const Type type = s.takeType();
  // A cache policy may follow the address.
  if (s.take("L2::cache_hint")) s.operands.resize(2);
  s.expect(s.operands.size() == 2);
  if (i.space == Space::parameter && s.operands[1].space == Space::local) i.space = Space::local;
  d.address(s, 1, i.a, i.immediate);
  std::vector<Slot> slots;
  d.append(s, 0, slots);
  s.expect(slots.size() == i.count);
  i.d = slots[0];
  if (i.count > 1) i.list = d.list(slots);
  withAccessType(type, [&]<class T>() {
    if (i.space == Space::parameter) i.run = loadParameter<T>;
    withSpace(i.space, [&]<Space space>() { i.run = i.count > 1 ? loadVector<T, space> : load<T, space>; });
  });
}

void decodeStore(Statement& s, Decoder& d, Instruction& i) {
  i.space = takeSpace(s);
  takeHints(s);
  i.count = takeVector(s);
  const Type type = s.takeType();
  if (s.take("L2::cache_hint")) s.operands.resize(2);
  s.expect(s.operands.size() == 2);
  if (i.space == Space::parameter && s.operands[0].space == Space::local) i.space = Space::local;
  s.expect(i.space != Space::constant);
  d.address(s, 0, i.a, i.immediate);
  std::vector<Slot> slots;
  d.append(s, 1, slots);
  s.expect(slots.size() == i.count);
  i.b = slots[0];
  if (i.count > 1) i.list = d.list(slots);
  withAccessType(type, [&]<class T>() {
    withSpace(i.space, [&]<Space space>() { i.run = i.count > 1 ? storeVector<T, space> : store<T, space>; });
  });
}

uint64_t windowOf(Space space) {
  switch (space) {
    case Space::shared:
    case Space::cluster:
      return kSharedWindow;
    case Space::local:
      return kLocalWindow;
    case Space::parameter:
      return kParameterWindow;
    default:
      return 0;
  }
}

void toGeneric(Thread& t, const Instruction& i) { t.registers[i.d] = t.registers[i.a] + uint64_t(i.immediate); }

void fromGeneric(Thread& t, const Instruction& i) {
  const uint64_t a = t.registers[i.a];
  if ((a & kWindowMask) != uint64_t(i.immediate))
    t.fail(format("cvta of 0x%llx, which is of another state space", (unsigned long long)a));
  t.registers[i.d] = a - uint64_t(i.immediate);
}

void decodeConvertAddress(Statement& s, Decoder& d, Instruction& i) {
  const bool to = s.take("to");
  i.space = takeSpace(s);
  s.expect(s.takeType() == Type::u64 && s.operands.size() == 2 && i.space != Space::generic);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  i.immediate = int64_t(windowOf(i.space));
  i.run = to && i.immediate ? fromGeneric : toGeneric;
}

void isInSpace(Thread& t, const Instruction& i) {
  const uint64_t address = t.registers[i.a], peer = (address & ~kWindowMask) / kPeerStride;
  const bool own = i.space != Space::shared || peer == 0 || peer == t.block->rank + 1;
  t.registers[i.d] = own && (address & kWindowMask) == uint64_t(i.immediate);
}

void decodeIsInSpace(Statement& s, Decoder& d, Instruction& i) {
  i.space = takeSpace(s);
  s.expect(s.operands.size() == 2 && i.space != Space::generic && i.space != Space::constant);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  i.immediate = int64_t(windowOf(i.space));
  i.run = isInSpace;
}

void decodePrefetch(Statement& s, Decoder& d, Instruction& i) {
  if (s.take("tensormap")) return decodeTensorPrefetch(s, d, i);
  takeSpace(s);
  s.take("L1"), s.take("L2");
  takeHints(s);
  s.expect(s.operands.size() == 1 && s.operands[0].kind == Operand::Kind::address);
  i.run = [](Thread&, const Instruction&) {};
}

}  // namespace

void registerMemory(DecodeTable& table) {
  table["ld"] = decodeLoad;
  table["ldu"] = decodeLoad;
  table["st"] = decodeStore;
  table["cvta"] = decodeConvertAddress;
  table["isspacep"] = decodeIsInSpace;
  table["prefetch"] = decodePrefetch;
  table["prefetchu"] = decodePrefetch;
}

}  // namespace flowmap::simt
