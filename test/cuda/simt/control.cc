// Branches, the end of a thread, traps and failed assertions.
#include "block.h"
#include "decoder.h"

namespace flowmap::simt {
namespace {

void branch(Thread& t, const Instruction& i) { t.next = i.target; }

void branchTable(Thread& t, const Instruction& i) {
  const uint32_t index = t.read<uint32_t>(i.a);
  if (index >= i.count) t.fail(format("branch to entry %u of a table of %u", index, i.count));
  t.next = t.block->kernel.code.data() + i.list[index];
}

void end(Thread& t, const Instruction&) { t.block->threadEnds(t); }

void trap(Thread& t, const Instruction&) { t.fail("trap"); }

std::string textAt(Thread& t, const Instruction& i, uint64_t address) {
  std::string text;
  for (;; ++address) {
    const char c = char(*t.block->access(t, i, Space::generic, address, 1, Access::read));
    if (c == '\0') return text;
    text += c;
  }
}

/** Slots of the arguments' variables: message, file, line, function, size of a character. */
void assertionFails(Thread& t, const Instruction& i) {
  const auto argument = [&](int index) {
    uint64_t value = 0;
    const uint32_t size = index == 2 ? 4 : 8;
    std::memcpy(&value, t.block->access(t, i, Space::local, t.registers[i.list[index]], size, Access::read), size);
    return value;
  };
  t.fail(format("%s:%llu: %s: assertion `%s` failed", textAt(t, i, argument(1)).c_str(),
                (unsigned long long)argument(2), textAt(t, i, argument(3)).c_str(), textAt(t, i, argument(0)).c_str()));
}

}  // namespace

void registerControl(DecodeTable& table) {
  table["bra"] = [](Statement& s, Decoder&, Instruction& i) {
    s.take("uni");
    s.expect(s.operands.size() == 1 && s.operands[0].kind == Operand::Kind::label);
    i.run = branch;
  };
  table["brx"] = [](Statement& s, Decoder& d, Instruction& i) {
    s.take("uni");
    s.expect(s.take("idx") && s.operands.size() == 2 && s.operands[1].kind == Operand::Kind::label);
    i.a = d.scalar(s, 0);
    i.run = branchTable;
  };
  table["ret"] = [](Statement& s, Decoder&, Instruction& i) {
    s.take("uni");
    i.run = end;
  };
  table["exit"] = [](Statement&, Decoder&, Instruction& i) { i.run = end; };
  table["trap"] = [](Statement&, Decoder&, Instruction& i) { i.run = trap; };
  table["__assertfail"] = [](Statement& s, Decoder& d, Instruction& i) {
    s.expect(s.operands.size() == 5);
    std::vector<Slot> slots;
    for (const Operand& operand : s.operands) slots.push_back(operand.slot);
    i.list = d.list(slots);
    i.run = assertionFails;
  };
}

}  // namespace flowmap::simt
