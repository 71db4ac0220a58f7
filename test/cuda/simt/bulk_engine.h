// Bulk copies of a cluster (cp.async.bulk, TMA) that are under way. Their bytes move when someone must wait for them: a
// destination in shared memory is poisoned until then, so a missing or too weak wait shows at once.
#pragma once

#include <memory>
#include <unordered_map>

#include "mbarrier.h"

namespace flowmap::simt {

class Cluster;

/** What happens to an element of the destination. */
using Combine = void (*)(uint8_t* to, const uint8_t* from, uint32_t bytes);
void copyBytes(uint8_t* to, const uint8_t* from, uint32_t bytes);

struct BulkCopy {
  /** Addresses of global memory, or places of the cluster's shared memory. */
  struct Run {
    uint64_t to, from;
    uint32_t bytes;
    bool zero;  // nothing is read
  };
  struct Range {
    Space space;
    uint64_t address;
    uint32_t bytes;
  };
  Thread* issuer = nullptr;
  const Instruction* at = nullptr;
  Space to = Space::shared, from = Space::global;
  std::vector<Run> runs;
  std::vector<Range> reads, writes;  // what the race detector is told: in larger pieces
  Combine combine = copyBytes;
  std::vector<SharedPlace> mbarriers;  // each is told of barrierBytes
  uint32_t barrierBytes = 0;
  Observer::Ticket readTicket = 0, writeTicket = 0;
  bool done = false;
};

class BulkEngine {
 public:
  explicit BulkEngine(Cluster& cluster) : cluster_(cluster) {}
  void start() { copies_.clear(), groups_.clear(); }
  /** Checks its ends, and takes it on. One without an mbarrier joins its issuer's open group. */
  void issue(std::shared_ptr<BulkCopy>);
  void commit(Thread&);
  /** Until at most `pending` of the thread's groups are under way; where only their reads matter, nothing is said of
   * what they write. */
  void wait(Thread&, uint32_t pending, bool reads);
  /** Nothing else can go on: the oldest copy that an mbarrier waits for arrives. False when there is none. */
  bool completeOne();
  /** With SIMT_COMPLETION=random, now and then. */
  void completeByChance(Block&);
  /** All threads of the block have ended: copies from or to its memory must have, too. */
  void blockEnds(const Block&);

 private:
  struct Groups {
    std::vector<std::shared_ptr<BulkCopy>> open;
    std::deque<std::vector<std::shared_ptr<BulkCopy>>> committed;
    std::vector<std::shared_ptr<BulkCopy>> read;  // their reads were waited for
  };
  void complete(BulkCopy&);
  uint8_t* bytes(Space, uint64_t address, uint8_t*& shadow);
  Cluster& cluster_;
  std::deque<std::shared_ptr<BulkCopy>> copies_;
  std::unordered_map<uint32_t, Groups> groups_;  // by agent
};

}  // namespace flowmap::simt
