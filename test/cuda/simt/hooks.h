// What a checker of kernels (the race detector) is told. Empty by default; a block without an observer pays one null
// test.
#pragma once

#include <memory>
#include <span>

#include "program.h"

namespace flowmap::simt {

struct Block;
struct Thread;
struct Launch;
struct Warp;

enum class Access : uint8_t { read, write, atomic };

/**
 * Sees one cluster, of one block for the most part. Called by the OS thread that runs it; may throw Defect. That it
 * starts and that it ended is said with its first block.
 */
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void blockStarts(Block&) {}
  virtual void blockEnds(Block&) {}
  /**
   * Shared addresses are those of the shared window (kSharedBase is the first byte), in the space `cluster` with the
   * block that has them (kPeerStride); global ones are device addresses.
   */
  virtual void access(Thread&, const Instruction&, Space, uint64_t address, uint32_t size, Access) {}
  /** A barrier of the block completed: `arrived` (bar.arrive and bar.sync) happens before what `waiting` does next. */
  virtual void barrier(Block&, std::span<Thread* const> arrived, std::span<Thread* const> waiting) {}
  /** bar.warp.sync orders memory; the other collectives (`ordersMemory` false) do not. */
  virtual void collective(Block&, std::span<Thread* const> threads, bool ordersMemory) {}
  virtual void fence(Thread&, const Instruction&) {}
  /** The thread's engine of asynchronous copies: its accesses are ordered with the thread's own by copyWait alone. */
  virtual void copyAccess(Thread&, const Instruction&, Space, uint64_t address, uint32_t size, Access) {}
  virtual void copyCommit(Thread&) {}
  virtual void copyWait(Thread&, uint32_t pending) {}
  virtual void threadEnds(Thread&) {}
  /** The barrier of the cluster: releasing arrivals happen before what follows a wait of the phase they complete. */
  virtual void clusterArrives(Thread&, bool releases) {}
  virtual void clusterCompletes() {}
  virtual void clusterWaits(Thread&) {}

  // ---- mbarriers, by their place in the cluster's shared memory: block · kPeerStride + address ----
  virtual void mbarrierStarts(Thread&, const Instruction&, uint64_t place) {}
  virtual void mbarrierEnds(Thread&, const Instruction&, uint64_t place) {}
  virtual void mbarrierUsed(Thread&, const Instruction&, uint64_t place) {}
  /** Arrivals of a phase happen before what follows a wait for its end. */
  virtual void mbarrierArrives(Thread&, uint64_t place) {}
  virtual void mbarrierCompletes(uint64_t place) {}
  virtual void mbarrierPasses(Thread&, uint64_t place) {}
  /** fence.mbarrier_init; fence.proxy.async, which shows engines what the thread knows of others' accesses. */
  virtual void startFence(Thread&) {}
  virtual void proxyFence(Thread&) {}

  // ---- engines of bulk copies: what they do follows what their issuer did, and nothing follows it before a wait ----
  using Ticket = uint32_t;
  virtual Ticket engineStarts(Thread& issuer) { return 0; }
  /** Shared addresses are places, as of mbarriers. */
  virtual void engineAccess(Ticket, Thread& issuer, const Instruction&, Space, uint64_t address, uint32_t size,
                            Access) {}
  virtual void engineUses(Thread& issuer, const Instruction&, uint64_t mbarrier) {}
  virtual void engineArrives(Ticket, uint64_t mbarrier) {}
  virtual void engineAwaited(Ticket, Thread&) {}

  // ---- wgmma: an engine per warp, whose reads end with the wait for their group ----
  virtual void wgmmaReads(Thread& lane, const Instruction&, uint64_t address, uint32_t size) {}
  virtual void wgmmaCommit(Warp&) {}
  virtual void wgmmaWait(Warp&, uint32_t pending) {}
};

/** Sees one launch, and makes the observers of its clusters, given their first block; block() may be called by several
 * OS threads. */
class LaunchObserver {
 public:
  virtual ~LaunchObserver() = default;
  virtual std::unique_ptr<Observer> block(Block&) = 0;
  virtual void launchEnds() {}
};

/** Null when nothing is to be observed (SIMT_RACES=0). */
std::unique_ptr<LaunchObserver> observe(const Launch&);

}  // namespace flowmap::simt
