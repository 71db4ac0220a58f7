// Bank conflicts of shared memory: how many passes the hardware would make for a warp's access, and how few are needed.
// Matrix loads are always counted, ordinary loads and stores when asked for (SIMT_STATS=1).
#pragma once

#include <atomic>
#include <cstdint>
#include <span>

#include "program.h"

namespace flowmap::simt {

struct BankCounts {
  std::atomic<uint64_t> matrixPasses = 0, matrixIdeal = 0;  // ldmatrix, stmatrix
  std::atomic<uint64_t> scalarPasses = 0, scalarIdeal = 0;  // ld.shared, st.shared
};

/** Passes for addresses that are served together: those of different words in one bank take turns. */
uint32_t bankPasses(std::span<const uint64_t> addresses, uint32_t size);

/** Counters of all launches of the kernels with this name. */
BankCounts& bankCounts(const Kernel&);
bool countsScalarBanks();

}  // namespace flowmap::simt

// For tests, through dlsym. Totals over the kernels whose readable name contains `kernel`, since the last reset.
extern "C" {
struct SimtBanks {
  uint64_t matrixPasses, matrixIdeal, scalarPasses, scalarIdeal;
};
SimtBanks simtBanks(const char* kernel);
void simtCountBanks(int scalarsToo);  // resets all counters
}
