// Counts the bank conflicts of ordinary loads and stores of shared memory. Threads run one after the other here, so the
// accesses that a warp makes together are matched by instruction and by how often each lane executed it.
#pragma once

#include <array>
#include <deque>
#include <map>

#include "hooks.h"

namespace flowmap::simt {

struct Warp;

class BankObserver : public Observer {
 public:
  void blockStarts(Block&) override { waves_.clear(); }
  void blockEnds(Block&) override;
  void access(Thread&, const Instruction&, Space, uint64_t address, uint32_t size, Access) override;

 private:
  struct Wave {
    uint32_t mask = 0, size = 0;
    std::array<uint64_t, 32> addresses;
  };
  /** The executions of one instruction by one warp that not all lanes have made yet; `first` is the oldest's number. */
  struct Site {
    std::deque<Wave> open;
    uint64_t first = 0;
    std::array<uint64_t, 32> executed{};
  };
  void count(const Block&, const Wave&);
  std::map<std::pair<const Warp*, const Instruction*>, Site> waves_;
};

}  // namespace flowmap::simt
