// Vector clocks of the race detector. Threads that leave a barrier together share one clock; beyond it a thread has
// only its own time and that of its copy engine, so a barrier costs one clock, not one per thread.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "shadow.h"

namespace flowmap::simt {

using Clock = std::vector<uint32_t>;  // by agent
using Snapshot = std::shared_ptr<const Clock>;
/** What is known of other blocks, by their linear index. */
using ForeignClocks = std::map<uint32_t, Snapshot>;
using Foreign = std::shared_ptr<const ForeignClocks>;

struct Knowledge {
  Snapshot known;       // as of the last synchronisation
  uint32_t own = 2;     // the thread's time: rises whenever others may have learned of it; 1 is that it started
  uint32_t copied = 0;  // its engine's time that it waited for
  Foreign foreign;
  Snapshot proxied;  // of generic accesses, what fence.proxy.async showed to the asynchronous proxy
  Snapshot fenced;   // what it knew at its last fence, or learned that others had fenced: what its atomics release
};

/** Time goes on. */
void tick(uint32_t& clock);

Snapshot join(const Snapshot&, const Snapshot&);
Foreign join(const Foreign&, const Foreign&);

/** What one thread knows, as a clock of its own. */
Snapshot snapshot(const Knowledge&, uint32_t thread, uint32_t threads);

/** Joins what the threads know; to be given to those that learn it. Every thread's own time then has to rise. */
Knowledge joined(std::span<const Knowledge* const>, std::span<const uint32_t> threadIndices, uint32_t threads);

/** A place where atomics meet: what was released there, by block. */
using Released = std::map<uint32_t, Snapshot>;

}  // namespace flowmap::simt
