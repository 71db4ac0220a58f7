// What the environment asks of the emulator: SIMT_SM, SIMT_SEED, SIMT_RACES, SIMT_WORKERS, SIMT_MEMORY.
// (SIMT_COMPLETION is completion.h's, SIMT_STATS banks.h's.)
#pragma once

#include <cstdint>

namespace flowmap::simt {

struct Options {
  int sm = 80;        // compute capability × 10
  uint64_t seed = 0;  // 0: threads run in index order; otherwise random, repeatably
  bool races = true;
  unsigned workers = 1;          // OS threads that run the blocks of a grid
  uint64_t memory = 4ull << 30;  // bytes of the pretended device
};

const Options& options();

/** Bytes of shared memory that a block may ask for, by compute capability. */
uint32_t maxShared();
/** Of the pretended device; with clusters, enough for one of 8 blocks. */
unsigned multiprocessors();

}  // namespace flowmap::simt
