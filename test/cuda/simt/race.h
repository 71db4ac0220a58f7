// The happens-before race detector of shared and global memory, for one cluster of blocks at a time. Two accesses of
// which one writes must be ordered by barriers, bar.warp.sync, waits for copies, or (fences and) atomics; shuffles,
// votes and matrix instructions order nothing. Atomics do not race with each other.
#pragma once

#include <mutex>

#include "hooks.h"
#include "knowledge.h"
#include "peers.h"
#include "shadow.h"

namespace flowmap::simt {

/** What finished clusters did to a cell of global memory: a writer and a reader, the latest of each. */
struct BlockAccess {
  Epoch epoch;
  uint32_t block = 0;       // number of the cluster
  uint32_t at : 31 = 0;     // a Place
  uint32_t atomic : 1 = 0;  // a write that only atomics made
};
struct Trace {
  BlockAccess write, read;
};

class RaceLaunch;

class RaceObserver : public Observer {
 public:
  RaceObserver(RaceLaunch& launch, Block& block);
  void blockStarts(Block&) override;
  void blockEnds(Block&) override;
  void access(Thread&, const Instruction&, Space, uint64_t address, uint32_t size, Access) override;
  void barrier(Block&, std::span<Thread* const> arrived, std::span<Thread* const> waiting) override;
  void collective(Block&, std::span<Thread* const> threads, bool ordersMemory) override;
  void fence(Thread&, const Instruction&) override;
  void copyAccess(Thread&, const Instruction&, Space, uint64_t address, uint32_t size, Access) override;
  void copyCommit(Thread&) override;
  void copyWait(Thread&, uint32_t pending) override;
  void threadEnds(Thread&) override;
  void clusterArrives(Thread&, bool releases) override;
  void clusterCompletes() override;
  void clusterWaits(Thread&) override;
  void mbarrierStarts(Thread&, const Instruction&, uint64_t place) override;
  void mbarrierEnds(Thread&, const Instruction&, uint64_t place) override;
  void mbarrierUsed(Thread&, const Instruction&, uint64_t place) override;
  void mbarrierArrives(Thread&, uint64_t place) override;
  void mbarrierCompletes(uint64_t place) override;
  void mbarrierPasses(Thread&, uint64_t place) override;
  void startFence(Thread&) override;
  void proxyFence(Thread&) override;
  Ticket engineStarts(Thread& issuer) override;
  void engineAccess(Ticket, Thread& issuer, const Instruction&, Space, uint64_t address, uint32_t size,
                    Access) override;
  void engineUses(Thread& issuer, const Instruction&, uint64_t mbarrier) override;
  void engineArrives(Ticket, uint64_t mbarrier) override;
  void engineAwaited(Ticket, Thread&) override;
  void wgmmaReads(Thread& lane, const Instruction&, uint64_t address, uint32_t size) override;
  void wgmmaCommit(Warp&) override;
  void wgmmaWait(Warp&, uint32_t pending) override;

 private:
  struct Party {  // who accesses, and as what
    Thread& thread;
    const Instruction& instruction;
    Epoch epoch;
    Space space;
    uint64_t address;
    Access access;
    bool engine = false;  // of the asynchronous proxy
  };
  Knowledge& knowledge(const Thread&);
  bool knows(const Thread&, Epoch) const;
  bool knowsBlock(const Thread&, const BlockAccess&) const;
  /** Knows of it, and where an engine accesses, has shown it that. */
  bool follows(const Party&, Epoch) const;
  void check(Party, uint32_t size);
  void checkCells(Party, uint32_t size);  // of global memory, or of a place in the cluster's shared memory
  void checkRead(Cell&, const Party&);
  void checkWrite(Cell&, const Party&);
  void checkOtherBlocks(const Party&, uint32_t size);
  void meet(const Party&);
  void learn(std::span<Thread* const> from, std::span<Thread* const> to);
  void report(const Party&, const char* verb, Epoch other, Place at) const;

  RaceLaunch& launch_;
  const Agents agents_;
  const uint32_t threads_;  // of the cluster
  uint32_t block_ = 0;      // number of the cluster
  std::vector<Knowledge> knowledge_;
  std::vector<uint32_t> engines_;  // times of the copy engines: rise with every commit
  Shadow<Cell> shared_, global_;
  std::map<uint64_t, Released> places_;  // of shared memory
  Peers peers_;

  // What race_engines.cc knows.
  struct Mbarrier {
    Epoch start;
    const Instruction* startedAt = nullptr;
    bool fenced = false, published = false;  // by its thread; to the cluster
    std::vector<Knowledge> arrivals;         // of the phase under way
    std::vector<uint32_t> arrived;
    std::vector<Epoch> copies;  // that came in it
    Knowledge completed;        // by all phases so far
    Snapshot learner, learned;  // the latest that a wait joined, and the result: threads mostly know the same
  };
  Mbarrier& mbarrierAt(uint64_t place);
  void checkStarted(const Thread&, const Instruction&, const Mbarrier&, uint64_t place) const;
  void publishMbarriers();
  uint32_t engineOfWarp(const Warp&) const;  // an index into engineTimes_
  void raise(Thread&, Epoch);
  std::vector<uint32_t> engineTimes_;  // of bulk copies, then of the warps' wgmma
  uint32_t nextEngine_ = 0;
  std::map<uint64_t, Mbarrier> mbarriers_;
};

/** One launch: what its blocks do to each other in global memory. */
class RaceLaunch : public LaunchObserver {
 public:
  explicit RaceLaunch(const Launch&);
  std::unique_ptr<Observer> block(Block&) override;
  /** Takes over what a block did; without atomics on global memory nothing orders it with other blocks. */
  void merge(Block&, uint32_t block, Shadow<Cell>&);
  bool manyBlocks() const { return manyBlocks_; }
  bool ordered() const { return ordered_; }

 private:
  friend class RaceObserver;
  void mergeCell(Block&, uint64_t address, uint32_t block, const Cell&, Trace&);
  std::mutex mutex_;
  Shadow<Trace> traces_;
  std::map<uint64_t, Released> places_;  // of global memory
  bool manyBlocks_, ordered_;
  Agents agents_;
};

}  // namespace flowmap::simt
