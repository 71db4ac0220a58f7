// wgmma of a cluster's warps, under way: every warp computes its 16 rows, when it waits for their group. Until then the
// accumulators' registers hold NaNs that say whose element they will be.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "block.h"

namespace flowmap::simt {

class Cluster;

struct Accumulator {
  uint32_t token = 0;         // what registers hold in place of element 0; of element j it is j more
  uint32_t perLane = 0;       // elements
  uint32_t underWay = 0;      // products
  std::vector<float> values;  // 32 lanes of perLane
};

struct WarpProduct {
  const Instruction* at = nullptr;
  uint64_t a = 0, b = 0;  // descriptors
  bool accumulates = false;
  std::vector<uint32_t> registersOfA;  // 32 lanes of 4, where A is in registers
  std::shared_ptr<Accumulator> accumulator;
};

/** Of the instruction, in Instruction::immediate; Instruction::count is n. */
struct WgmmaForm {
  bool half, aInRegisters, aMnMajor, bMnMajor, aNegated, bNegated;
  int64_t encode() const {
    return half | aInRegisters << 1 | aMnMajor << 2 | bMnMajor << 3 | aNegated << 4 | bNegated << 5;
  }
  static WgmmaForm of(int64_t bits) {
    return {bool(bits & 1), bool(bits & 2), bool(bits & 4), bool(bits & 8), bool(bits & 16), bool(bits & 32)};
  }
};

/** Multiplies: reads shared memory now. */
void compute(Warp&, const WarpProduct&);
/** Says which shared memory the product reads, and checks that it is there. */
void observeReads(Warp&, const WarpProduct&);

class Warpgroups {
 public:
  explicit Warpgroups(Cluster& cluster) : cluster_(cluster) {}
  void start() { warps_.clear(), groups_.clear(); }
  void fence(Warp&);
  void issue(Warp&);
  void commit(Warp&);
  void wait(Warp&, uint32_t pending);
  /** Every product must have been waited for, and made by all four warps. */
  void blockEnds(const Block&);

 private:
  struct State {
    bool fenced = false;
    uint32_t tokens = 0, products = 0;
    std::vector<WarpProduct> open;
    std::deque<std::vector<WarpProduct>> committed;
    std::map<uint32_t, std::shared_ptr<Accumulator>> accumulators;  // under way, by token
  };
  struct Group {  // what its first warp to come did, while others have still to
    std::deque<WarpProduct> products;
    uint32_t first = 0;
  };
  static uint32_t keyOf(const Block&, uint32_t warp);
  State& stateOf(const Warp&);
  void checkSame(Warp&, const State&, const WarpProduct&);
  std::shared_ptr<Accumulator> accumulatorOf(Warp&, State&, uint32_t perLane);
  void finish(Warp&, State&, std::vector<WarpProduct>&);
  Cluster& cluster_;
  std::map<uint32_t, State> warps_;
  std::map<uint32_t, Group> groups_;
};

}  // namespace flowmap::simt
