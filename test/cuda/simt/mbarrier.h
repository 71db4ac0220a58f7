// mbarriers of a cluster: their state, which lives in their 8 bytes, and who waits for them. Phases complete when all
// arrivals and all bytes of asynchronous copies have come.
#pragma once

#include <vector>

#include "shared_place.h"

namespace flowmap::simt {

struct BarrierState {
  uint64_t phase : 1, expected : 20, pending : 20;
  int64_t bytes : 21;  // expected of asynchronous copies, less those that came
  uint64_t valid : 2;  // 1: initialised
};
static_assert(sizeof(BarrierState) == 8);

class Mbarriers {
 public:
  void start() { waiting_.clear(), fruitless_ = 0; }
  void initialise(Thread&, const Instruction&, const SharedPlace&, uint32_t count);
  void invalidate(Thread&, const Instruction&, const SharedPlace&);
  /** Returns the state before: its phase is what a wait for this arrival names. */
  uint64_t arrive(Thread&, const Instruction&, const SharedPlace&, uint32_t count, uint32_t bytes, bool mayComplete);
  /** expect_tx, or complete_tx where negative. */
  void expect(Thread&, const Instruction&, const SharedPlace&, int64_t bytes);
  bool test(Thread&, const Instruction&, const SharedPlace&, uint32_t phase);
  /** Blocks until the phase is over, then the predicate of the instruction is true. Programs that go on without that
   * are not modelled: a wait that the hardware gives up is always tried again. */
  void wait(Thread&, const Instruction&, const SharedPlace&, uint32_t phase);
  /** Of an engine: bytes of an asynchronous copy have come. `issuer` is whose copy it was. */
  void bytesCome(Thread& issuer, const Instruction&, const SharedPlace&, uint32_t bytes);
  /** Fails where the bytes are no initialised mbarrier. */
  BarrierState checked(const Thread&, const Instruction&, const SharedPlace&) const;
  /** What the waiting threads wait for, into Thread::waitsFor. */
  void describeWaits();
  /** Tests that failed since something happened. */
  uint32_t fruitless() const { return fruitless_; }

 private:
  struct Waiting {
    Thread* thread;
    SharedPlace place;
    uint32_t phase;
  };
  void store(const SharedPlace&, BarrierState);
  void add(const Thread&, const Instruction&, const SharedPlace&, BarrierState&, int64_t bytes) const;
  void settle(const SharedPlace&, BarrierState);
  std::vector<Waiting> waiting_;
  uint32_t fruitless_ = 0;
};

}  // namespace flowmap::simt
