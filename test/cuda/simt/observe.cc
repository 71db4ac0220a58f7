// Which checkers watch a launch: races by default, bank conflicts on request.
#include <algorithm>
#include <vector>

#include "bank_observer.h"
#include "banks.h"
#include "block.h"
#include "options.h"
#include "race.h"

namespace flowmap::simt {

namespace {

/** Several observers of one cluster, in turn. */
class Observers : public Observer {
 public:
  void add(std::unique_ptr<Observer> observer) { all_.push_back(std::move(observer)); }
  void blockStarts(Block& block) override {
    for (auto& each : all_) each->blockStarts(block);
  }
  void blockEnds(Block& block) override {
    for (auto& each : all_) each->blockEnds(block);
  }
  void access(Thread& thread, const Instruction& instruction, Space space, uint64_t address, uint32_t size,
              Access access) override {
    for (auto& each : all_) each->access(thread, instruction, space, address, size, access);
  }
  void barrier(Block& block, std::span<Thread* const> arrived, std::span<Thread* const> waiting) override {
    for (auto& each : all_) each->barrier(block, arrived, waiting);
  }
  void collective(Block& block, std::span<Thread* const> threads, bool ordersMemory) override {
    for (auto& each : all_) each->collective(block, threads, ordersMemory);
  }
  void fence(Thread& thread, const Instruction& instruction) override {
    for (auto& each : all_) each->fence(thread, instruction);
  }
  void copyAccess(Thread& thread, const Instruction& instruction, Space space, uint64_t address, uint32_t size,
                  Access access) override {
    for (auto& each : all_) each->copyAccess(thread, instruction, space, address, size, access);
  }
  void copyCommit(Thread& thread) override {
    for (auto& each : all_) each->copyCommit(thread);
  }
  void copyWait(Thread& thread, uint32_t pending) override {
    for (auto& each : all_) each->copyWait(thread, pending);
  }
  void threadEnds(Thread& thread) override {
    for (auto& each : all_) each->threadEnds(thread);
  }
  void clusterArrives(Thread& thread, bool releases) override {
    for (auto& each : all_) each->clusterArrives(thread, releases);
  }
  void clusterCompletes() override {
    for (auto& each : all_) each->clusterCompletes();
  }
  void clusterWaits(Thread& thread) override {
    for (auto& each : all_) each->clusterWaits(thread);
  }
  void mbarrierStarts(Thread& t, const Instruction& i, uint64_t place) override {
    for (auto& each : all_) each->mbarrierStarts(t, i, place);
  }
  void mbarrierEnds(Thread& t, const Instruction& i, uint64_t place) override {
    for (auto& each : all_) each->mbarrierEnds(t, i, place);
  }
  void mbarrierUsed(Thread& t, const Instruction& i, uint64_t place) override {
    for (auto& each : all_) each->mbarrierUsed(t, i, place);
  }
  void mbarrierArrives(Thread& t, uint64_t place) override {
    for (auto& each : all_) each->mbarrierArrives(t, place);
  }
  void mbarrierCompletes(uint64_t place) override {
    for (auto& each : all_) each->mbarrierCompletes(place);
  }
  void mbarrierPasses(Thread& t, uint64_t place) override {
    for (auto& each : all_) each->mbarrierPasses(t, place);
  }
  void startFence(Thread& t) override {
    for (auto& each : all_) each->startFence(t);
  }
  void proxyFence(Thread& t) override {
    for (auto& each : all_) each->proxyFence(t);
  }
  void engineAccess(Ticket ticket, Thread& t, const Instruction& i, Space space, uint64_t address, uint32_t size,
                    Access access) override {
    for (auto& each : all_) each->engineAccess(ticket, t, i, space, address, size, access);
  }
  void engineUses(Thread& t, const Instruction& i, uint64_t place) override {
    for (auto& each : all_) each->engineUses(t, i, place);
  }
  void engineArrives(Ticket ticket, uint64_t place) override {
    for (auto& each : all_) each->engineArrives(ticket, place);
  }
  void engineAwaited(Ticket ticket, Thread& t) override {
    for (auto& each : all_) each->engineAwaited(ticket, t);
  }
  void wgmmaReads(Thread& t, const Instruction& i, uint64_t address, uint32_t size) override {
    for (auto& each : all_) each->wgmmaReads(t, i, address, size);
  }
  void wgmmaCommit(Warp& warp) override {
    for (auto& each : all_) each->wgmmaCommit(warp);
  }
  void wgmmaWait(Warp& warp, uint32_t pending) override {
    for (auto& each : all_) each->wgmmaWait(warp, pending);
  }
  /** Only one of them (the race detector) knows engines. */
  Ticket engineStarts(Thread& issuer) override {
    Ticket ticket = 0;
    for (auto& each : all_) ticket = std::max(ticket, each->engineStarts(issuer));
    return ticket;
  }

 private:
  std::vector<std::unique_ptr<Observer>> all_;
};

class Checks : public LaunchObserver {
 public:
  Checks(std::unique_ptr<LaunchObserver> races, bool banks) : races_(std::move(races)), banks_(banks) {}
  std::unique_ptr<Observer> block(Block& block) override {
    if (!banks_) return races_->block(block);
    auto both = std::make_unique<Observers>();
    if (races_) both->add(races_->block(block));
    both->add(std::make_unique<BankObserver>());
    return both;
  }

 private:
  std::unique_ptr<LaunchObserver> races_;
  bool banks_;
};

}  // namespace

std::unique_ptr<LaunchObserver> observe(const Launch& launch) {
  const bool banks = countsScalarBanks();
  if (!banks && !options().races) return nullptr;
  std::unique_ptr<LaunchObserver> races;
  if (options().races) races = std::make_unique<RaceLaunch>(launch);
  return std::make_unique<Checks>(std::move(races), banks);
}

}  // namespace flowmap::simt
