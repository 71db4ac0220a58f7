// A cluster of blocks that run side by side (most are of one block): its scheduler, its barrier, and the shared memory
// that its blocks show each other.
#pragma once

#include <memory>
#include <vector>

#include "bulk_engine.h"
#include "warpgroups.h"

namespace flowmap::simt {

class Cluster {
 public:
  Cluster(const Launch&, DeviceMemory&, LaunchObserver*, uint64_t seed);
  void run(Index3 index);  // start to end, of the grid's clusters; throws Defect
  uint32_t size() const { return uint32_t(blocks_.size()); }
  Block& block(uint32_t rank) { return *blocks_[rank]; }
  uint64_t instructions() const;
  Mbarriers& mbarriers() { return mbarriers_; }
  BulkEngine& bulk() { return bulk_; }
  Warpgroups& warpgroups() { return warpgroups_; }

  // ---- what handlers call ----
  /** barrier.cluster.arrive; orders memory where it releases. */
  void arrive(Thread&, const Instruction&, bool releases);
  /** barrier.cluster.wait: for all threads of the cluster that have not exited. */
  void wait(Thread&, const Instruction&);
  void threadEnds(Thread&);

 private:
  struct Arrival {
    uint64_t phase = 0;  // counted from 1; 0: none that a wait has not met yet
    const Instruction* at = nullptr;
  };
  Block* pick();
  /** What is asynchronous goes on: by chance, or where nothing else can or threads only look for it. */
  bool completeSome(bool idle);
  /** All threads of a warp come to one place. */
  void checkAligned(Thread&, const Instruction&, std::vector<Arrival>& firstOfWarp);
  void completeIfFull();
  [[noreturn]] void deadlock();

  const Launch& launch_;
  LaunchObserver* launchObserver_;
  std::shared_ptr<Observer> observer_;
  std::vector<std::unique_ptr<Block>> blocks_;
  Mbarriers mbarriers_;
  BulkEngine bulk_{*this};
  Warpgroups warpgroups_{*this};
  uint32_t threads_, next_ = 0;  // threads of a block; whose turn it is
  uint64_t seed_;
  uint64_t phase_ = 1;  // of the barrier
  uint32_t arrived_ = 0;
  std::vector<Arrival> arrivals_;  // by agent
  std::vector<Thread*> waiting_;
  std::vector<Arrival> firstArrivals_, firstWaits_;  // by warp
};

}  // namespace flowmap::simt
