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

 private:
  struct Party {  // who accesses, and as what
    Thread& thread;
    const Instruction& instruction;
    Epoch epoch;
    Space space;
    uint64_t address;
    Access access;
  };
  Knowledge& knowledge(const Thread&);
  bool knows(const Thread&, Epoch) const;
  bool knowsBlock(const Thread&, const BlockAccess&) const;
  void check(Party, uint32_t size);
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
