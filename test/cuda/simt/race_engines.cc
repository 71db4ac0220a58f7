// What orders threads with engines: mbarriers, fences of proxies, waits for groups of bulk copies and of wgmma.
#include <algorithm>

#include "cluster.h"
#include "race.h"

namespace flowmap::simt {

bool RaceObserver::follows(const Party& party, Epoch epoch) const {
  if (!knows(party.thread, epoch)) return false;
  // What engines did needs no fence, and what threads did has been fenced since.
  if (!party.engine || epoch.agent() >= 2 * threads_) return true;
  const Snapshot& shown = knowledge_[party.thread.agent].proxied;
  return shown && epoch.clock() <= (*shown)[epoch.agent()];
}

// ---- mbarriers ----

void RaceObserver::mbarrierStarts(Thread& thread, const Instruction& instruction, uint64_t place) {
  const Epoch now{thread.agent, knowledge(thread).own};
  checkCells({thread, instruction, now, Space::shared, place, Access::write}, 8);
  Mbarrier& fresh = mbarriers_[place] = {};
  fresh.start = now, fresh.startedAt = &instruction;
}

void RaceObserver::mbarrierEnds(Thread& thread, const Instruction& instruction, uint64_t place) {
  checkStarted(thread, instruction, mbarrierAt(place), place);
  const Epoch now{thread.agent, knowledge(thread).own};
  checkCells({thread, instruction, now, Space::shared, place, Access::write}, 8);
  mbarriers_.erase(place);
}

RaceObserver::Mbarrier& RaceObserver::mbarrierAt(uint64_t place) { return mbarriers_.at(place); }

void RaceObserver::checkStarted(const Thread& thread, const Instruction& instruction, const Mbarrier& mbarrier,
                                uint64_t place) const {
  if (mbarrier.published || knows(thread, mbarrier.start)) return;
  thread.fail(
      format("race at the mbarrier at shared+0x%llx of block %llu: its initialisation by %s (%s) and its use by "
             "%s (%s) are not ordered",
             (unsigned long long)(place % kPeerStride - kSharedBase), (unsigned long long)(place / kPeerStride),
             agents_.name(mbarrier.start.agent()).c_str(), mbarrier.startedAt->where,
             agents_.name(thread.agent).c_str(), instruction.where));
}

void RaceObserver::mbarrierUsed(Thread& thread, const Instruction& instruction, uint64_t place) {
  checkStarted(thread, instruction, mbarrierAt(place), place);
  if (place / kPeerStride == thread.block->rank) return;
  Knowledge& mine = knowledge(thread);
  peers_.meet(thread, instruction, place, {thread.agent, mine.own}, mine);
}

void RaceObserver::mbarrierArrives(Thread& thread, uint64_t place) {
  Mbarrier& mbarrier = mbarrierAt(place);
  Knowledge& mine = knowledge(thread);
  mbarrier.arrivals.push_back(mine);
  mbarrier.arrived.push_back(thread.agent);
  tick(mine.own);
}

void RaceObserver::mbarrierCompletes(uint64_t place) {
  Mbarrier& mbarrier = mbarrierAt(place);
  std::vector<const Knowledge*> all;
  for (const Knowledge& each : mbarrier.arrivals) all.push_back(&each);
  Knowledge news;
  if (!all.empty()) news = joined(all, mbarrier.arrived, threads_);
  auto clock = news.known ? std::make_shared<Clock>(*news.known) : std::make_shared<Clock>(agents_.count());
  for (const Epoch copy : mbarrier.copies) (*clock)[copy.agent()] = std::max((*clock)[copy.agent()], copy.clock());
  Knowledge& completed = mbarrier.completed;
  completed.known = join(completed.known, clock);
  completed.fenced = join(completed.fenced, news.fenced);
  completed.foreign = join(completed.foreign, news.foreign);
  completed.proxied = join(completed.proxied, news.proxied);
  mbarrier.arrivals.clear(), mbarrier.arrived.clear(), mbarrier.copies.clear();
  mbarrier.learner = nullptr;
}

void RaceObserver::mbarrierPasses(Thread& thread, uint64_t place) {
  Mbarrier& mbarrier = mbarrierAt(place);
  const Knowledge& completed = mbarrier.completed;
  if (!completed.known) return;  // the phase before the first
  Knowledge& mine = knowledge(thread);
  if (mbarrier.learner != mine.known || !mbarrier.learner) {
    mbarrier.learner = mine.known;
    mbarrier.learned = join(mine.known, completed.known);
  }
  mine.known = mbarrier.learned;
  mine.fenced = join(mine.fenced, completed.fenced);
  mine.foreign = join(mine.foreign, completed.foreign);
  mine.proxied = join(mine.proxied, completed.proxied);
}

void RaceObserver::publishMbarriers() {
  for (auto& [place, mbarrier] : mbarriers_) mbarrier.published |= mbarrier.fenced;
}

// ---- fences ----

void RaceObserver::startFence(Thread& thread) {
  for (auto& [place, mbarrier] : mbarriers_) mbarrier.fenced |= mbarrier.start.agent() == thread.agent;
}

void RaceObserver::proxyFence(Thread& thread) {
  startFence(thread);
  Knowledge& mine = knowledge(thread);
  mine.proxied = snapshot(mine, thread.agent, threads_);
  tick(mine.own);
}

// ---- bulk copies ----

Observer::Ticket RaceObserver::engineStarts(Thread&) {
  const uint32_t engine = nextEngine_++ % Agents::kBulk;
  tick(engineTimes_[engine]);
  return std::bit_cast<Ticket>(Epoch(2 * threads_ + engine, engineTimes_[engine]));
}

void RaceObserver::engineAccess(Ticket ticket, Thread& issuer, const Instruction& instruction, Space space,
                                uint64_t address, uint32_t size, Access access) {
  checkCells({issuer, instruction, std::bit_cast<Epoch>(ticket), space, address, access, true}, size);
}

void RaceObserver::engineUses(Thread& issuer, const Instruction& instruction, uint64_t place) {
  const Mbarrier& mbarrier = mbarrierAt(place);
  checkStarted(issuer, instruction, mbarrier, place);
  if (mbarrier.fenced) return;
  issuer.fail(
      format("%s names an mbarrier whose initialisation (%s) no fence.mbarrier_init or fence.proxy.async follows",
             instruction.text, mbarrier.startedAt->where));
}

void RaceObserver::engineArrives(Ticket ticket, uint64_t place) {
  mbarrierAt(place).copies.push_back(std::bit_cast<Epoch>(ticket));
}

void RaceObserver::engineAwaited(Ticket ticket, Thread& thread) { raise(thread, std::bit_cast<Epoch>(ticket)); }

void RaceObserver::raise(Thread& thread, Epoch epoch) {
  Knowledge& mine = knowledge(thread);
  if (epoch.clock() <= (*mine.known)[epoch.agent()]) return;
  auto clock = std::make_shared<Clock>(*mine.known);
  (*clock)[epoch.agent()] = epoch.clock();
  mine.known = std::move(clock);
}

// ---- wgmma ----

uint32_t RaceObserver::engineOfWarp(const Warp& warp) const {
  const Block& block = *warp.block;
  return Agents::kBulk + block.rank * uint32_t(block.warps.size()) + warp.first / 32;
}

void RaceObserver::wgmmaReads(Thread& lane, const Instruction& instruction, uint64_t address, uint32_t size) {
  const uint32_t engine = engineOfWarp(*lane.warp);
  const Epoch now{2 * threads_ + engine, engineTimes_[engine]};
  checkCells({lane, instruction, now, Space::shared, lane.block->rank * kPeerStride + address, Access::read, true},
             size);
}

void RaceObserver::wgmmaCommit(Warp& warp) { tick(engineTimes_[engineOfWarp(warp)]); }

void RaceObserver::wgmmaWait(Warp& warp, uint32_t pending) {
  const uint32_t engine = engineOfWarp(warp), committed = engineTimes_[engine] - 1;
  if (committed <= pending) return;
  const Epoch done{2 * threads_ + engine, committed - pending};
  Snapshot before, after;
  for (uint32_t mask = warp.live; mask != 0; mask &= mask - 1) {
    Thread& lane = warp.lane(uint32_t(std::countr_zero(mask)));
    Knowledge& mine = knowledge(lane);
    if (mine.known == before && before) {
      mine.known = after;
      continue;
    }
    before = mine.known;
    raise(lane, done);
    after = mine.known;
  }
}

}  // namespace flowmap::simt
