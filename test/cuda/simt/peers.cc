// Clusters, as the race detector sees them.
#include "peers.h"

#include <algorithm>

#include "cluster.h"

namespace flowmap::simt {

Agents::Agents(const Launch& launch)
    : perBlock(uint32_t(launch.block.count())),
      threads(uint32_t(launch.block.count() * launch.cluster.count())),
      warps(launch.kernel->asynchronous ? (perBlock + 31) / 32 * uint32_t(launch.cluster.count()) : 0) {
  if (count() > 1u << Epoch::kAgentBits) throw Defect("the race detector follows no more threads and engines");
}

std::string Agents::name(uint32_t agent) const {
  if (agent >= 2 * threads + kBulk) {
    const uint32_t warp = agent - 2 * threads - kBulk, ofBlock = (perBlock + 31) / 32;
    const std::string name = format("a wgmma of warp %u", warp % ofBlock);
    return alone() ? name : name + format(" of block %u of the cluster", warp / ofBlock);
  }
  if (agent >= 2 * threads) return "a bulk copy";
  const uint32_t thread = agent % threads;
  const std::string name = format(agent < threads ? "thread %u" : "a cp.async of thread %u", thread % perBlock);
  return alone() ? name : name + format(" of block %u of the cluster", thread / perBlock);
}

std::string Agents::name(uint32_t agent, uint32_t cluster) const {
  return name(agent) + format(alone() ? " of block %u" : " %u", cluster);
}

void Peers::start() {
  knownThen_.clear();
  arrivals_.clear(), arrived_.clear(), relaxed_.clear();
  released_ = {};
  if (agents_.alone()) return;
  const uint32_t blocks = agents_.threads / agents_.perBlock;
  visits_.assign(blocks, {});
  ends_.assign(blocks, nullptr);
}

void Peers::meet(const Thread& thread, const Instruction& instruction, uint64_t address, Epoch epoch,
                 const Knowledge& mine) {
  const uint32_t owner = uint32_t(address / kPeerStride), first = owner * agents_.perBlock;
  const Clock& known = *mine.known;
  const auto begin = known.begin() + first;
  if (std::all_of(begin, begin + agents_.perBlock, [](uint32_t clock) { return clock == 0; })) {
    thread.fail(format("access to the shared memory of block %u of the cluster, which may not have started", owner));
  }
  std::vector<Visit>& visits = visits_[owner];
  if (visits.empty()) visits.resize(agents_.threads);
  visits[epoch.agent() % agents_.threads] = {epoch.clock(), address, &instruction};
}

void Peers::threadEnds(const Thread& thread, const Knowledge& mine) {
  if (agents_.alone()) return;
  Snapshot& known = ends_[thread.block->rank];
  known = join(known, mine.known);
}

void Peers::checkEnds(const Block& any) const {
  for (uint32_t owner = 0; owner < visits_.size(); ++owner) {
    for (uint32_t agent = 0; agent < visits_[owner].size(); ++agent) {
      const Visit& visit = visits_[owner][agent];
      if (visit.clock <= (*ends_[owner])[agent]) continue;
      throw Defect(
          format("race at shared+0x%llx of block %u of the cluster: its access by %s (%s) and the end of the "
                 "block, whose memory goes with it, are not ordered, kernel %s",
                 (unsigned long long)(visit.address % kPeerStride - kSharedBase), owner, agents_.name(agent).c_str(),
                 visit.at->where, any.kernel.readable.c_str()));
    }
  }
}

void Peers::arrive(uint32_t agent, const Knowledge& mine, bool releases) {
  knownThen_.resize(agents_.threads);
  knownThen_[agent] = releases ? mine.known : nullptr;
  if (!releases) {
    relaxed_.push_back(agent);
    return;
  }
  arrivals_.push_back(mine);
  arrived_.push_back(agent);
}

void Peers::complete() {
  std::vector<const Knowledge*> all;
  for (const Knowledge& each : arrivals_) all.push_back(&each);
  released_ = {};
  if (!all.empty()) released_ = joined(all, arrived_, agents_.threads);
  if (!relaxed_.empty()) {
    // No memory is ordered, but they have started.
    auto clock = released_.known ? std::make_shared<Clock>(*released_.known) : std::make_shared<Clock>(agents_.count());
    for (const uint32_t agent : relaxed_) (*clock)[agent] = std::max((*clock)[agent], 1u);
    released_.known = std::move(clock);
  }
  arrivals_.clear(), arrived_.clear(), relaxed_.clear();
}

void Peers::wait(uint32_t agent, Knowledge& mine) {
  // Where nothing was learned since the arrival, what was released has it all.
  const bool included = mine.known == knownThen_[agent];
  mine.known = included ? released_.known : join(mine.known, released_.known);
  mine.fenced = join(mine.fenced, released_.fenced);
  mine.foreign = join(mine.foreign, released_.foreign);
  mine.proxied = join(mine.proxied, released_.proxied);
}

}  // namespace flowmap::simt
