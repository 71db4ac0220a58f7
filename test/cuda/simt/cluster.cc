// The life of a cluster: its blocks take turns until all have ended.
#include "cluster.h"

#include <utility>

namespace flowmap::simt {

Cluster::Cluster(const Launch& launch, DeviceMemory& memory, LaunchObserver* observer, uint64_t seed)
    : launch_(launch), launchObserver_(observer), threads_(uint32_t(launch.block.count())), seed_(seed) {
  const uint32_t size = uint32_t(launch.cluster.count());
  for (uint32_t rank = 0; rank < size; ++rank) {
    blocks_.push_back(std::make_unique<Block>(launch, memory, *this, rank, seed));
  }
}

uint64_t Cluster::instructions() const {
  uint64_t sum = 0;
  for (const auto& block : blocks_) sum += block->instructions;
  return sum;
}

void Cluster::run(Index3 at) {
  phase_ = 1;
  arrived_ = next_ = 0;
  waiting_.clear();
  mbarriers_.start();
  bulk_.start();
  warpgroups_.start();
  arrivals_.assign(size_t(size()) * threads_, {});
  firstArrivals_.assign(size_t(size()) * block(0).warps.size(), {});
  firstWaits_ = firstArrivals_;
  observer_ = launchObserver_ ? launchObserver_->block(block(0)) : nullptr;
  const Index3 shape = launch_.cluster;
  for (uint32_t rank = 0; rank < size(); ++rank) {
    const Index3 within = shape.at(rank);
    block(rank).start({at.x * shape.x + within.x, at.y * shape.y + within.y, at.z * shape.z + within.z}, observer_);
  }
  if (observer_) observer_->blockStarts(block(0));
  for (;;) {
    Block* next = pick();
    if (launch_.kernel->asynchronous && completeSome(!next) && !next) continue;
    if (!next) break;
    next->turn();
  }
  for (const auto& each : blocks_) {
    if (!each->ended()) deadlock();
  }
  if (observer_) observer_->blockEnds(block(0));
}

bool Cluster::completeSome(bool idle) {
  // Threads that test instead of waiting: long enough for all others to have had their turns.
  constexpr uint32_t kPatience = 4096, kHopeless = 1 << 20;
  if (!idle) bulk_.completeByChance(block(0));
  if (!idle && mbarriers_.fruitless() < kPatience) return false;
  const bool done = bulk_.completeOne();
  if (!done && mbarriers_.fruitless() > kHopeless) deadlock();
  return done;
}

/** In turn or, with a seed, at random; null where no thread of any block can go on. */
Block* Cluster::pick() {
  const uint32_t first = size() == 1 ? 0 : seed_ ? uint32_t(block(0).random() % size()) : next_++ % size();
  for (uint32_t i = 0; i < size(); ++i) {
    Block& candidate = block((first + i) % size());
    if (candidate.ready()) return &candidate;
  }
  return nullptr;
}

// ---- the barrier ----

void Cluster::checkAligned(Thread& t, const Instruction& i, std::vector<Arrival>& firstOfWarp) {
  if (!(i.immediate & kAligned)) return;
  const uint64_t phase = arrivals_[t.agent].phase;
  Arrival& first = firstOfWarp[t.block->rank * t.block->warps.size() + t.index / 32];
  if (first.phase == phase && first.at != &i) {
    t.fail(format("divergent barrier: %s, while another thread of the same warp came to %s (%s)", i.text,
                  first.at->text, first.at->where));
  }
  first = {phase, &i};
}

void Cluster::arrive(Thread& t, const Instruction& i, bool releases) {
  Arrival& mine = arrivals_[t.agent];
  if (mine.phase) t.fail(format("%s, but the thread arrived before (%s) and has not waited", i.text, mine.at->where));
  mine = {phase_, &i};
  ++arrived_;
  checkAligned(t, i, firstArrivals_);
  if (observer_) observer_->clusterArrives(t, releases);
  completeIfFull();
}

void Cluster::wait(Thread& t, const Instruction& i) {
  Arrival& mine = arrivals_[t.agent];
  if (!mine.phase) t.fail(format("%s, but the thread has not arrived", i.text));
  checkAligned(t, i, firstWaits_);
  if (mine.phase == phase_) {
    t.status = Status::barrier;
    waiting_.push_back(&t);
    return;
  }
  mine = {};
  if (observer_) observer_->clusterWaits(t);
}

void Cluster::completeIfFull() {
  uint32_t live = 0;
  for (const auto& block : blocks_) live += block->live();
  if (arrived_ == 0 || arrived_ < live) return;
  if (observer_) observer_->clusterCompletes();
  arrived_ = 0;
  ++phase_;
  for (Thread* t : std::exchange(waiting_, {})) {
    arrivals_[t->agent] = {};
    if (observer_) observer_->clusterWaits(*t);
    t->block->wake(*t);
  }
}

/** Threads that exited are not waited for. */
void Cluster::threadEnds(Thread& t) {
  if (launch_.kernel->asynchronous && t.block->ended()) {
    bulk_.blockEnds(*t.block);
    warpgroups_.blockEnds(*t.block);
  }
  if (size() == 1 && arrived_ == 0) return;
  if (std::exchange(arrivals_[t.agent], {}).phase == phase_) --arrived_;
  completeIfFull();
}

// ---- shared memory of other blocks ----

uint8_t* Block::peerBytes(Thread& t, uint64_t address, uint32_t size, Access kind, uint8_t*& shadow) {
  const uint64_t peer = address / kPeerStride, offset = address % kPeerStride, at = offset - kSharedBase;
  if (peer > cluster.size()) {
    t.fail(format("access of %u bytes at shared 0x%llx, of block %llu of a cluster of %u", size,
                  (unsigned long long)address, (unsigned long long)(peer - 1), cluster.size()));
  }
  Block& owner = peer ? cluster.block(uint32_t(peer - 1)) : *this;
  const char* verb = kind == Access::read ? "read" : kind == Access::write ? "write" : "atomic operation";
  const std::string access = format("%s of %u bytes at shared 0x%llx of block %u of the cluster", verb, size,
                                    (unsigned long long)offset, owner.rank);
  if (address & (size - 1)) t.fail(access + ", which is misaligned");
  if (offset < kSharedBase) t.fail(access + ", before its start");
  if (at + size > owner.shared.size()) {
    t.fail(access + format(", %llu bytes past the end of %zu bytes",
                           (unsigned long long)(at + size - owner.shared.size()), owner.shared.size()));
  }
  if (owner.ended()) t.fail(access + ", which has ended");
  shadow = &owner.sharedShadow[at];
  if (kind != Access::write && !isWritten(shadow, size)) t.fail(access + ", which was never written");
  return &owner.shared[at];
}

// ---- reports ----

void Cluster::deadlock() {
  mbarriers_.describeWaits();
  std::string report = "deadlock:";
  if (size() == 1) {
    report += block(0).waits();
  } else {
    for (uint32_t rank = 0; rank < size(); ++rank) {
      report += format(" block %u of the cluster:", rank) + block(rank).waits();
    }
  }
  throw Defect(report + format(" kernel %s, block %s", block(0).kernel.readable.c_str(), text(block(0).index).c_str()));
}

}  // namespace flowmap::simt
