// What the race detector knows of a cluster: its barrier, and accesses to the shared memory of other blocks, which must
// come after those blocks have started and before they end.
#pragma once

#include <string>
#include <vector>

#include "knowledge.h"
#include "shadow.h"

namespace flowmap::simt {

struct Block;
struct Thread;
struct Launch;

/** Threads by number: block by block, then their engines of cp.async, and where a kernel has them, those of bulk copies
 * and of the warps' wgmma. */
struct Agents {
  explicit Agents(const Launch&);
  static constexpr uint32_t kBulk = 64;  // engines of bulk copies, which copies take in turn
  uint32_t perBlock, threads;            // threads of a block, of the cluster
  uint32_t warps;                        // that have engines: all of the cluster, or none
  uint32_t count() const { return 2 * threads + (warps ? kBulk + warps : 0); }
  std::string name(uint32_t agent) const;
  std::string name(uint32_t agent, uint32_t cluster) const;  // among all of the grid
  bool alone() const { return perBlock == threads; }
};

class Peers {
 public:
  explicit Peers(const Agents& agents) : agents_(agents) {}
  void start();
  /** An access to the shared memory of another block: address / kPeerStride. */
  void meet(const Thread&, const Instruction&, uint64_t address, Epoch, const Knowledge&);
  void threadEnds(const Thread&, const Knowledge&);
  void checkEnds(const Block& any) const;  // throws Defect
  // The barrier: what arrivals release is what waits learn.
  void arrive(uint32_t agent, const Knowledge&, bool releases);
  void complete();
  void wait(uint32_t agent, Knowledge&);

 private:
  struct Visit {  // the latest of an agent to a block
    uint32_t clock = 0;
    uint64_t address = 0;
    const Instruction* at = nullptr;
  };
  const Agents agents_;
  std::vector<std::vector<Visit>> visits_;  // by block and agent
  std::vector<Snapshot> ends_;              // what the threads of a block knew when they ended
  std::vector<Knowledge> arrivals_;         // of the phase under way
  std::vector<uint32_t> arrived_, relaxed_;
  std::vector<Snapshot> knownThen_;  // by agent: `known` when it arrived, and released that
  Knowledge released_;               // by the latest phase
};

}  // namespace flowmap::simt
