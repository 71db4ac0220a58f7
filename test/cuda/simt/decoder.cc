// Types, modifiers and slots: what all families of decoders share.
#include "decoder.h"

#include <algorithm>

#include "report.h"

namespace flowmap::simt {

namespace {

struct TypeFacts {
  std::string_view name;
  Type type;
  uint32_t bytes;
};

constexpr TypeFacts kTypes[] = {{"b8", Type::b8, 1},         {"b16", Type::b16, 2},    {"b32", Type::b32, 4},
                                {"b64", Type::b64, 8},       {"b128", Type::b128, 16}, {"u8", Type::u8, 1},
                                {"u16", Type::u16, 2},       {"u32", Type::u32, 4},    {"u64", Type::u64, 8},
                                {"s8", Type::s8, 1},         {"s16", Type::s16, 2},    {"s32", Type::s32, 4},
                                {"s64", Type::s64, 8},       {"f16", Type::f16, 2},    {"bf16", Type::bf16, 2},
                                {"f32", Type::f32, 4},       {"f64", Type::f64, 8},    {"f16x2", Type::f16x2, 4},
                                {"bf16x2", Type::bf16x2, 4}, {"tf32", Type::tf32, 4},  {"pred", Type::pred, 1}};

}  // namespace

Type typeOf(std::string_view name) {
  for (const TypeFacts& facts : kTypes) {
    if (facts.name == name) return facts.type;
  }
  return Type::none;
}

uint32_t sizeOf(Type type) {
  for (const TypeFacts& facts : kTypes) {
    if (facts.type == type) return facts.bytes;
  }
  return 0;
}

bool isFloat(Type type) { return type >= Type::f16 && type <= Type::tf32; }
bool isSigned(Type type) { return type >= Type::s8 && type <= Type::s64; }

bool Statement::take(std::string_view modifier) {
  const auto found = std::find(modifiers.begin(), modifiers.end(), modifier);
  if (found == modifiers.end()) return false;
  modifiers.erase(found);
  return true;
}

Type Statement::takeType() {
  for (auto modifier = modifiers.begin(); modifier != modifiers.end(); ++modifier) {
    if (const Type type = typeOf(*modifier); type != Type::none) {
      modifiers.erase(modifier);
      return type;
    }
  }
  return Type::none;
}

void Statement::unknown() const { throw UnknownPtx(format("PTX line %u: unknown instruction %s", line, text.c_str())); }

Slot Decoder::constant(uint64_t value) {
  const auto [found, fresh] = constants_.try_emplace(value, Slot(kernel_.image.size()));
  if (fresh) kernel_.image.push_back(value);
  return found->second;
}

Slot Decoder::temporary() {
  kernel_.image.push_back(0);
  return Slot(kernel_.image.size() - 1);
}

Slot Decoder::scalar(const Statement& statement, size_t operand) {
  statement.expect(operand < statement.operands.size());
  const Operand& o = statement.operands[operand];
  statement.expect(o.kind == Operand::Kind::slot || o.kind == Operand::Kind::sink);
  statement.expect(!o.negated);
  return o.slot;
}

const Slot* Decoder::list(const std::vector<Slot>& slots) { return kernel_.lists.emplace_back(slots).data(); }

void Decoder::append(const Statement& statement, size_t operand, std::vector<Slot>& to) {
  statement.expect(operand < statement.operands.size());
  const Operand& o = statement.operands[operand];
  if (o.kind != Operand::Kind::vector) {
    to.push_back(scalar(statement, operand));
    return;
  }
  for (const Operand& element : o.elements) {
    statement.expect(element.kind == Operand::Kind::slot || element.kind == Operand::Kind::sink);
    to.push_back(element.slot);
  }
}

void Decoder::address(const Statement& statement, size_t operand, Slot& base, int64_t& offset) {
  statement.expect(operand < statement.operands.size());
  const Operand& o = statement.operands[operand];
  statement.expect(o.kind == Operand::Kind::address);
  base = o.slot;
  offset = o.offset;
}

const DecodeTable& decodeTable() {
  static const DecodeTable& table = *new DecodeTable([] {
    DecodeTable all;
    registerArithmetic(all);
    registerComparisons(all);
    registerBits(all);
    registerConversions(all);
    registerMath(all);
    registerMemory(all);
    registerControl(all);
    registerAtomics(all);
    registerWarp(all);
    registerCopies(all);
    registerMatrix(all);
    registerMma(all);
    registerCluster(all);
    registerMbarriers(all);
    registerWgmma(all);
    return all;
  }());
  return table;
}

}  // namespace flowmap::simt
