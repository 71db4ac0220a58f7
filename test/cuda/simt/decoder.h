// From a parsed statement to an Instruction. Each family of operations registers a decoder per base opcode; a decoder
// takes the modifiers it knows, and what is left over makes the statement unknown: no modifier is ever ignored by
// accident.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "program.h"

namespace flowmap::simt {

enum class Type : uint8_t {
  none,
  b8,
  b16,
  b32,
  b64,
  b128,
  u8,
  u16,
  u32,
  u64,
  s8,
  s16,
  s32,
  s64,
  f16,
  bf16,
  f32,
  f64,
  f16x2,
  bf16x2,
  tf32,
  pred
};
Type typeOf(std::string_view name);
uint32_t sizeOf(Type);
bool isFloat(Type);
bool isSigned(Type);

struct Operand {
  enum class Kind : uint8_t { slot, address, vector, label, sink } kind = Kind::slot;
  Slot slot = kSinkSlot;       // the value; of an address: its base
  bool constant = false;       // slot holds a constant (immediate or symbol)
  uint64_t value = 0;          // of a constant
  bool negated = false;        // !p
  Slot predicate = kSinkSlot;  // p of `d|p`
  bool hasPredicate = false;
  int64_t offset = 0;             // of an address
  Space space = Space::generic;   // of an address whose base is a variable: where that lives
  std::string name;               // label, variable or special register
  std::vector<Operand> elements;  // of a vector; of an address: what follows a comma (TMA coordinates)
};

struct Statement {
  std::string text, opcode;
  std::vector<std::string> modifiers;
  std::vector<Operand> operands;
  uint32_t line = 0;

  bool take(std::string_view modifier);  // removes it; false when absent
  Type takeType();                       // removes the first type; none when absent
  [[noreturn]] void unknown() const;     // "PTX line N: unknown instruction <text>"
  void expect(bool condition) const {
    if (!condition) unknown();
  }
};

/** What a decoder may ask of the kernel being decoded. */
class Decoder {
 public:
  explicit Decoder(Kernel& kernel) : kernel_(kernel) {}
  Slot constant(uint64_t value);                     // a slot that always holds the value
  Slot scalar(const Statement&, size_t operand);     // slot of a register or constant
  Slot temporary();                                  // a fresh register
  const Slot* list(const std::vector<Slot>& slots);  // keeps them as long as the kernel lives
  /** Slots of vector operands (a scalar counts as a vector of one), appended to `to`. */
  void append(const Statement&, size_t operand, std::vector<Slot>& to);
  /** Base and offset of an address operand, into `base` and instruction.immediate. */
  void address(const Statement&, size_t operand, Slot& base, int64_t& offset);
  Kernel& kernel() { return kernel_; }

 private:
  Kernel& kernel_;
  std::unordered_map<uint64_t, Slot> constants_;
};

using DecodeFunction = void (*)(Statement&, Decoder&, Instruction&);
using DecodeTable = std::unordered_map<std::string, DecodeFunction>;

/** cp.async.bulk and cp.reduce.async.bulk, after `async`. */
void decodeBulk(Statement&, Decoder&, Instruction&);
/** The tensor forms of those, after `bulk.tensor`. */
void decodeTensor(Statement&, Decoder&, Instruction&);
void decodeTensorPrefetch(Statement&, Decoder&, Instruction&);

/** barrier.cluster, whose opcode is that of the barriers of a block. */
void decodeClusterBarrier(Statement&, Decoder&, Instruction&);

// One per family; decoder.cc calls them all once.
void registerArithmetic(DecodeTable&);
void registerComparisons(DecodeTable&);
void registerBits(DecodeTable&);
void registerConversions(DecodeTable&);
void registerMath(DecodeTable&);
void registerMemory(DecodeTable&);
void registerControl(DecodeTable&);
void registerAtomics(DecodeTable&);
void registerWarp(DecodeTable&);
void registerCopies(DecodeTable&);
void registerMatrix(DecodeTable&);
void registerMma(DecodeTable&);
void registerCluster(DecodeTable&);
void registerMbarriers(DecodeTable&);
void registerWgmma(DecodeTable&);
const DecodeTable& decodeTable();

}  // namespace flowmap::simt
