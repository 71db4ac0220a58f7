// cp.async: asynchronous copies from global to shared memory, in groups. A copy's destination is poisoned when it is
// issued and gets its bytes when the thread waits for its group: a missing or too weak wait shows at once. The bulk and
// mbarrier forms of `cp` belong in files of their own.
#include <algorithm>

#include "block.h"
#include "completion.h"
#include "decoder.h"

namespace flowmap::simt {

namespace {

struct Copy {
  const Instruction* instruction;
  uint64_t to, from;  // addresses in the shared window and in device memory
  uint32_t bytes, fromBytes;
  bool done;
};

struct Copies : ThreadExtension {
  std::vector<Copy> open;  // since the last commit
  std::deque<std::vector<Copy>> groups;
  std::vector<Copy> spare;  // the memory of a group that is done, for the next
};

Copies& copiesOf(Thread& thread) {
  if (!thread.copies) thread.copies = std::make_unique<Copies>();
  return static_cast<Copies&>(*thread.copies);
}

void complete(Block& block, Copy& copy) {
  if (copy.done) return;
  copy.done = true;
  const uint64_t at = copy.to - kSharedBase;
  if (copy.fromBytes) {
    std::memcpy(&block.shared[at], block.memory.bytes(copy.from), copy.fromBytes);
    std::memcpy(&block.sharedShadow[at], block.memory.shadow(copy.from), copy.fromBytes);
  }
  std::memset(&block.shared[at + copy.fromBytes], 0, copy.bytes - copy.fromBytes);
  std::memset(&block.sharedShadow[at + copy.fromBytes], kWritten, copy.bytes - copy.fromBytes);
}

void completeSome(Thread& thread) {
  if (completion() != Completion::random) return;
  Copies& copies = copiesOf(thread);
  const auto toss = [&](std::vector<Copy>& group) {
    for (Copy& copy : group) {
      if (thread.block->random() % 4 == 0) complete(*thread.block, copy);
    }
  };
  for (std::vector<Copy>& group : copies.groups) toss(group);
  toss(copies.open);
}

/** Space of an address of a copy's end; a generic one is resolved. */
uint64_t sharedAddress(const Thread& thread, const Instruction& instruction) {
  const uint64_t address = uint32_t(thread.registers[instruction.a]) + instruction.immediate;
  const Block& block = *thread.block;
  const uint32_t bytes = instruction.count;
  if (address < kSharedBase || address + bytes > kSharedBase + block.shared.size()) {
    thread.fail(format("cp.async writes %u bytes at shared+0x%llx, outside the block's %zu bytes of shared memory",
                       bytes, (unsigned long long)(address - kSharedBase), block.shared.size()));
  }
  if (address % bytes) {
    thread.fail(format("cp.async writes %u bytes at shared+0x%llx, which is not a multiple of %u", bytes,
                       (unsigned long long)(address - kSharedBase), bytes));
  }
  return address;
}

uint64_t globalAddress(const Thread& thread, const Instruction& instruction, uint32_t fromBytes) {
  const uint64_t address = thread.registers[instruction.b] + thread.registers[instruction.c];
  if (!fromBytes) return address;  // nothing is read: any pointer will do
  if (!thread.block->memory.valid(address, fromBytes)) {
    thread.fail(format("cp.async reads %u bytes of global memory %s", fromBytes,
                       thread.block->memory.describe(address, fromBytes).c_str()));
  }
  if (address % instruction.count) {
    thread.fail(format("cp.async reads at 0x%llx, which is not a multiple of %u", (unsigned long long)address,
                       instruction.count));
  }
  return address;
}

void runCopy(Thread& thread, const Instruction& instruction) {
  const uint32_t bytes = instruction.count;
  const uint32_t fromBytes = uint32_t(thread.registers[instruction.e]);
  if (fromBytes > bytes) {
    thread.fail(
        format("cp.async of %u bytes with a source of %u bytes: the source is at most as long", bytes, fromBytes));
  }
  completeSome(thread);
  Block& block = *thread.block;
  Copy copy{
      &instruction, sharedAddress(thread, instruction), globalAddress(thread, instruction, fromBytes), bytes, fromBytes,
      false};
  if (block.observer) {
    if (fromBytes) block.observer->copyAccess(thread, instruction, Space::global, copy.from, fromBytes, Access::read);
    block.observer->copyAccess(thread, instruction, Space::shared, copy.to, bytes, Access::write);
  }
  if (completion() == Completion::eager) {
    complete(block, copy);
    return;
  }
  std::memset(&block.shared[copy.to - kSharedBase], kPoison, bytes);
  // The race detector, where there is one, names both sides of a read that comes too early; else it is a read of
  // nothing.
  std::memset(&block.sharedShadow[copy.to - kSharedBase], block.observer ? kWritten : kUnwritten, bytes);
  copiesOf(thread).open.push_back(copy);
}

void runCommit(Thread& thread, const Instruction&) {
  completeSome(thread);
  Copies& copies = copiesOf(thread);
  copies.groups.push_back(std::move(copies.open));
  copies.open = std::move(copies.spare);
  copies.open.clear();
  if (thread.block->observer) thread.block->observer->copyCommit(thread);
}

void runWait(Thread& thread, const Instruction& instruction) {
  completeSome(thread);
  Copies& copies = copiesOf(thread);
  while (copies.groups.size() > instruction.count) {
    for (Copy& copy : copies.groups.front()) complete(*thread.block, copy);
    copies.spare = std::move(copies.groups.front());
    copies.groups.pop_front();
  }
  if (thread.block->observer) thread.block->observer->copyWait(thread, instruction.count);
}

void runWaitAll(Thread& thread, const Instruction& instruction) {
  runCommit(thread, instruction);
  runWait(thread, instruction);
}

void decodeCopy(Statement& statement, Decoder& decoder, Instruction& instruction) {
  const bool all = statement.take("ca");
  statement.expect(all != statement.take("cg"));
  statement.expect(statement.take("shared") || statement.take("shared::cta"));
  statement.expect(statement.take("global"));
  const bool hint = statement.take("L2::cache_hint");
  for (const char* prefetch : {"L2::64B", "L2::128B", "L2::256B"}) {
    if (statement.take(prefetch)) break;
  }
  int64_t fromOffset = 0;
  decoder.address(statement, 0, instruction.a, instruction.immediate);
  decoder.address(statement, 1, instruction.b, fromOffset);
  instruction.c = decoder.constant(uint64_t(fromOffset));
  const size_t operands = statement.operands.size() - hint;
  statement.expect(operands == 3 || operands == 4);
  statement.expect(statement.operands[2].constant);
  const uint64_t bytes = statement.operands[2].value;
  statement.expect(bytes == 16 || (all && (bytes == 4 || bytes == 8)));
  instruction.count = uint32_t(bytes);
  if (operands == 4) {
    // A predicate here would be `ignore-src`, which is not `src-size`.
    statement.expect(statement.operands[3].name.rfind("%p", 0) != 0);
    instruction.e = decoder.scalar(statement, 3);
  } else {
    instruction.e = decoder.constant(bytes);
  }
  instruction.run = runCopy;
}

void decode(Statement& statement, Decoder& decoder, Instruction& instruction) {
  if (statement.take("reduce")) return decodeBulk(statement, decoder, instruction);
  statement.expect(statement.take("async"));
  if (statement.take("bulk")) return decodeBulk(statement, decoder, instruction);
  if (statement.take("commit_group")) {
    instruction.run = runCommit;
  } else if (statement.take("wait_group")) {
    statement.expect(statement.operands.size() == 1 && statement.operands[0].constant);
    instruction.count = uint32_t(statement.operands[0].value);
    instruction.run = runWait;
  } else if (statement.take("wait_all")) {
    instruction.count = 0;
    instruction.run = runWaitAll;
  } else {
    decodeCopy(statement, decoder, instruction);
  }
}

// A cache policy changes no result: its register gets a zero.
void decodePolicy(Statement& statement, Decoder& decoder, Instruction& instruction) {
  statement.expect(statement.take("fractional") && statement.takeType() == Type::b64);
  std::erase_if(statement.modifiers, [](const std::string& modifier) { return modifier.starts_with("L2::evict_"); });
  instruction.d = decoder.scalar(statement, 0);
  instruction.run = [](Thread& thread, const Instruction& i) { thread.write<uint64_t>(i.d, 0); };
}

}  // namespace

void registerCopies(DecodeTable& table) {
  table["cp"] = decode;
  table["createpolicy"] = decodePolicy;
}

}  // namespace flowmap::simt
