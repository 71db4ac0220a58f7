// Issue and completion of bulk copies.
#include "bulk_engine.h"

#include <algorithm>

#include "cluster.h"
#include "completion.h"

namespace flowmap::simt {

void copyBytes(uint8_t* to, const uint8_t* from, uint32_t bytes) { std::memcpy(to, from, bytes); }

uint8_t* BulkEngine::bytes(Space space, uint64_t address, uint8_t*& shadow) {
  if (space == Space::global) {
    DeviceMemory& memory = cluster_.block(0).memory;
    shadow = memory.shadow(address);
    return memory.bytes(address);
  }
  const SharedPlace place{&cluster_.block(uint32_t(address / kPeerStride)), address % kPeerStride};
  shadow = place.shadow();
  return place.bytes();
}

void BulkEngine::issue(std::shared_ptr<BulkCopy> shared) {
  BulkCopy& copy = *shared;
  Thread& issuer = *copy.issuer;
  for (const SharedPlace& place : copy.mbarriers) cluster_.mbarriers().checked(issuer, *copy.at, place);
  for (const BulkCopy::Run& run : copy.runs) {
    for (const bool reads : {true, false}) {
      const Space space = reads ? copy.from : copy.to;
      const uint64_t address = reads ? run.from : run.to;
      if (space != Space::global || (reads && run.zero) || issuer.block->memory.valid(address, run.bytes)) continue;
      issuer.fail(format("%s %s %u bytes of global memory %s", copy.at->text, reads ? "reads" : "writes", run.bytes,
                         issuer.block->memory.describe(address, run.bytes).c_str()));
    }
  }
  Observer* observer = issuer.block->observer.get();
  if (observer) {
    copy.readTicket = observer->engineStarts(issuer);
    copy.writeTicket = observer->engineStarts(issuer);
    for (const SharedPlace& place : copy.mbarriers) observer->engineUses(issuer, *copy.at, place.key());
    for (const BulkCopy::Range& range : copy.reads) {
      observer->engineAccess(copy.readTicket, issuer, *copy.at, range.space, range.address, range.bytes, Access::read);
    }
    const Access access = copy.combine == copyBytes ? Access::write : Access::atomic;
    for (const BulkCopy::Range& range : copy.writes) {
      observer->engineAccess(copy.writeTicket, issuer, *copy.at, range.space, range.address, range.bytes, access);
    }
  }
  if (copy.mbarriers.empty()) groups_[issuer.agent].open.push_back(shared);
  if (completion() == Completion::eager) return complete(copy);
  if (copy.to == Space::shared) {
    for (const BulkCopy::Run& run : copy.runs) {
      uint8_t* shadow;
      std::memset(bytes(copy.to, run.to, shadow), kPoison, run.bytes);
      // The race detector, where there is one, names both sides of a read that comes too early.
      std::memset(shadow, observer ? kWritten : kUnwritten, run.bytes);
    }
  }
  copies_.push_back(std::move(shared));
}

void BulkEngine::complete(BulkCopy& copy) {
  if (copy.done) return;
  copy.done = true;
  for (const BulkCopy::Run& run : copy.runs) {
    uint8_t *toShadow, *fromShadow;
    uint8_t* to = bytes(copy.to, run.to, toShadow);
    if (run.zero) {
      std::memset(to, 0, run.bytes);
      std::memset(toShadow, kWritten, run.bytes);
      continue;
    }
    const uint8_t* from = bytes(copy.from, run.from, fromShadow);
    if (copy.from == Space::shared || copy.combine != copyBytes) {
      const bool source = std::all_of(fromShadow, fromShadow + run.bytes, [](uint8_t b) { return b == kWritten; });
      const bool target = copy.combine == copyBytes ||
                          std::all_of(toShadow, toShadow + run.bytes, [](uint8_t b) { return b == kWritten; });
      if (!source || !target) {
        copy.issuer->at = copy.at;
        copy.issuer->fail(format("%s reads bytes that were never written, in %s memory", copy.at->text,
                                 source || copy.from == Space::global ? "global" : "shared"));
      }
    }
    copy.combine(to, from, run.bytes);
    std::memcpy(toShadow, fromShadow, run.bytes);
  }
  Observer* observer = copy.issuer->block->observer.get();
  for (const SharedPlace& place : copy.mbarriers) {
    if (observer) {
      observer->engineArrives(copy.readTicket, place.key());
      observer->engineArrives(copy.writeTicket, place.key());
    }
    cluster_.mbarriers().bytesCome(*copy.issuer, *copy.at, place, copy.barrierBytes);
  }
}

void BulkEngine::commit(Thread& thread) {
  Groups& groups = groups_[thread.agent];
  groups.committed.push_back(std::move(groups.open));
  groups.open.clear();
}

void BulkEngine::wait(Thread& thread, uint32_t pending, bool reads) {
  Groups& groups = groups_[thread.agent];
  Observer* observer = thread.block->observer.get();
  const auto finish = [&](const std::shared_ptr<BulkCopy>& copy) {
    complete(*copy);
    if (!observer) return;
    observer->engineAwaited(copy->readTicket, thread);
    if (!reads) observer->engineAwaited(copy->writeTicket, thread);
  };
  // Groups whose reads alone were waited for stay pending for the full wait.
  if (!reads) {
    for (auto& copy : groups.read) finish(copy);
    groups.read.clear();
  }
  while (groups.committed.size() > pending) {
    for (auto& copy : groups.committed.front()) {
      finish(copy);
      if (reads) groups.read.push_back(copy);
    }
    groups.committed.pop_front();
  }
  std::erase_if(copies_, [](const auto& copy) { return copy->done; });
}

bool BulkEngine::completeOne() {
  const auto found = std::find_if(copies_.begin(), copies_.end(),
                                  [](const auto& copy) { return !copy->done && !copy->mbarriers.empty(); });
  if (found == copies_.end()) return false;
  const std::shared_ptr<BulkCopy> copy = *found;
  copies_.erase(found);
  complete(*copy);
  return true;
}

void BulkEngine::completeByChance(Block& block) {
  if (copies_.empty() || completion() != Completion::random || block.random() % 4 != 0) return;
  const size_t index = block.random() % copies_.size();
  const std::shared_ptr<BulkCopy> copy = copies_[index];
  copies_.erase(copies_.begin() + ptrdiff_t(index));
  complete(*copy);
}

void BulkEngine::blockEnds(const Block& block) {
  for (const auto& copy : copies_) {
    if (copy->done) continue;
    const auto isOf = [&](const BulkCopy::Range& range) {
      return range.space == Space::shared && range.address / kPeerStride == block.rank;
    };
    if (!std::any_of(copy->reads.begin(), copy->reads.end(), isOf) &&
        !std::any_of(copy->writes.begin(), copy->writes.end(), isOf)) {
      continue;
    }
    copy->issuer->at = copy->at;
    copy->issuer->fail(format("%s is under way while the block of its shared memory ends", copy->at->text));
  }
}

}  // namespace flowmap::simt
