// cp.async.bulk and cp.reduce.async.bulk: whole pieces of memory, one thread issuing; their groups; and what their
// tensor forms share with them.
#include "bulk.h"

#include <algorithm>

#include "cluster.h"
#include "floats.h"

namespace flowmap::simt {

namespace {

template <class T>
T sum(T a, T b) {
  if constexpr (std::is_same_v<T, float>) {
    return canonical(a + b);
  } else {
    return narrow<T>(toFloat(a) + toFloat(b));
  }
}

template <class T>
void add(uint8_t* to, const uint8_t* from, uint32_t bytes) {
  for (uint32_t at = 0; at < bytes; at += sizeof(T)) {
    T a, b;
    std::memcpy(&a, to + at, sizeof a);
    std::memcpy(&b, from + at, sizeof b);
    a = sum(a, b);
    std::memcpy(to + at, &a, sizeof a);
  }
}

constexpr uint32_t kPiece = 16;

// list: destination, source, bytes, mbarrier, mask of blocks (the last two where the form has them).
enum Operand1D : uint32_t { kTo, kFrom, kBytes, kBarrier, kMask };

uint64_t globalPlace(const Thread& t, const Instruction& i, uint64_t address) {
  if (address % kPiece) {
    t.fail(format("%s: global 0x%llx is not a multiple of 16", i.text, (unsigned long long)address));
  }
  return address;
}

std::shared_ptr<BulkCopy> newCopy(Thread& t, const Instruction& i, uint32_t bytes) {
  if (bytes == 0 || bytes % kPiece) t.fail(format("%s of %u bytes, which is not a multiple of 16", i.text, bytes));
  auto copy = std::make_shared<BulkCopy>();
  copy->issuer = &t, copy->at = &i;
  return copy;
}

void addRun(BulkCopy& copy, uint64_t to, uint64_t from, uint32_t bytes) {
  copy.runs.push_back({to, from, bytes, false});
  copy.writes.push_back({copy.to, to, bytes});
}

template <bool FromGlobal>
void runLoad(Thread& t, const Instruction& i) {
  const uint32_t bytes = t.read<uint32_t>(i.list[kBytes]);
  auto copy = newCopy(t, i, bytes);
  copy->from = FromGlobal ? Space::global : Space::shared;
  const uint64_t source = t.registers[i.list[kFrom]];
  const uint64_t from =
      FromGlobal ? globalPlace(t, i, source) : sharedPlace(t, i, Space::shared, source, bytes, kPiece).key();
  copy->reads.push_back({copy->from, from, bytes});
  for (const BulkTarget& target : bulkTargets(t, i, {i.list[kTo], i.list[kBarrier], i.list[kMask]}, bytes, kPiece)) {
    addRun(*copy, target.to.key(), from, bytes);
    copy->mbarriers.push_back(target.mbarrier);
  }
  copy->barrierBytes = bytes;
  t.block->cluster.bulk().issue(std::move(copy));
}

template <Combine combine>
void runStore(Thread& t, const Instruction& i) {
  const uint32_t bytes = t.read<uint32_t>(i.list[kBytes]);
  auto copy = newCopy(t, i, bytes);
  copy->from = Space::shared, copy->to = Space::global, copy->combine = combine;
  const SharedPlace from = sharedPlace(t, i, Space::shared, t.registers[i.list[kFrom]], bytes, kPiece);
  copy->reads.push_back({Space::shared, from.key(), bytes});
  addRun(*copy, globalPlace(t, i, t.registers[i.list[kTo]]), from.key(), bytes);
  t.block->cluster.bulk().issue(std::move(copy));
}

void decodeGroups(Statement& s, Instruction& i) {
  if (s.take("commit_group")) {
    s.expect(s.operands.empty());
    i.run = [](Thread& t, const Instruction&) { t.block->cluster.bulk().commit(t); };
    return;
  }
  s.expect(s.take("wait_group") && s.operands.size() == 1 && s.operands[0].constant);
  i.count = uint32_t(s.operands[0].value);
  i.immediate = s.take("read");
  i.run = [](Thread& t, const Instruction& i) { t.block->cluster.bulk().wait(t, i.count, i.immediate != 0); };
}

Handler takeReduction(Statement& s) {
  s.expect(s.take("add") && s.takeType() == Type::f32);
  return runStore<add<float>>;
}

}  // namespace

Combine sumOf(MapElement element) {
  return element == MapElement::f32 ? add<float> : element == MapElement::f16 ? add<Half> : add<BFloat>;
}

Slot bulkAddress(Statement& s, Decoder& d, size_t operand) {
  Slot base;
  int64_t offset = 0;
  d.address(s, operand, base, offset);
  s.expect(offset == 0);
  return base;
}

std::vector<BulkTarget> bulkTargets(Thread& t, const Instruction& i, const BulkTargetSlots& slots, uint32_t bytes,
                                    uint32_t alignment) {
  const SharedPlace to = sharedPlace(t, i, i.space, t.registers[slots.to], bytes, alignment);
  const SharedPlace mbarrier = sharedPlace(t, i, i.space, t.registers[slots.mbarrier], 8, 8);
  if (slots.mask == kSinkSlot) return {{to, mbarrier}};
  Cluster& cluster = t.block->cluster;
  const uint32_t mask = t.read<uint16_t>(slots.mask);
  if (mask == 0 || mask >> cluster.size()) {
    t.fail(format("%s to blocks 0x%x of a cluster of %u", i.text, mask, cluster.size()));
  }
  std::vector<BulkTarget> targets;
  for (uint32_t rank = 0; rank < cluster.size(); ++rank) {
    if (!(mask >> rank & 1)) continue;
    Block& block = cluster.block(rank);
    if (block.ended()) t.fail(format("%s: block %u has ended", i.text, rank));
    targets.push_back({{&block, to.address}, {&block, mbarrier.address}});
  }
  return targets;
}

bool takeBulkLoad(Statement& s, Instruction& i) {
  if (!s.take("mbarrier::complete_tx::bytes")) {
    s.expect(s.take("bulk_group") && s.take("global") && s.take("shared::cta"));
    return false;
  }
  s.expect(s.take("shared::cluster"));
  i.space = Space::cluster;
  return true;
}

void takeCacheHint(Statement& s) {
  // A policy changes no result: its operand is the last.
  if (s.take("L2::cache_hint")) s.operands.pop_back();
}

void decodeBulk(Statement& s, Decoder& d, Instruction& i) {
  const bool reduces = s.take("async");
  if (reduces) s.expect(s.take("bulk"));
  d.kernel().asynchronous = true;
  d.kernel().ordered |= reduces;
  i.immediate = reduces;
  if (s.take("tensor")) return decodeTensor(s, d, i);
  const auto& all = s.modifiers;
  const auto group = [](const std::string& m) { return m == "commit_group" || m == "wait_group"; };
  if (!reduces && std::any_of(all.begin(), all.end(), group)) return decodeGroups(s, i);
  const bool loads = takeBulkLoad(s, i);
  takeCacheHint(s);
  if (loads) {
    const bool global = s.take("global"), many = s.take("multicast::cluster");
    s.expect(!reduces && (global || s.take("shared::cta")) && (global || !many));
    s.expect(s.operands.size() == (many ? 5 : 4));
    i.list = d.list({bulkAddress(s, d, 0), bulkAddress(s, d, 1), d.scalar(s, 2), bulkAddress(s, d, 3),
                     many ? d.scalar(s, 4) : kSinkSlot});
    i.run = global ? runLoad<true> : runLoad<false>;
    return;
  }
  s.expect(s.operands.size() == 3);
  i.list = d.list({bulkAddress(s, d, 0), bulkAddress(s, d, 1), d.scalar(s, 2)});
  i.run = reduces ? takeReduction(s) : runStore<copyBytes>;
}

}  // namespace flowmap::simt
