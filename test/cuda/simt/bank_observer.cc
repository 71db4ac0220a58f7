// Waves of accesses, and how the hardware cuts them: 32 lanes of up to 4 bytes, 16 of 8, 8 of 16 at a time.
#include "bank_observer.h"

#include <bit>

#include "banks.h"
#include "block.h"

namespace flowmap::simt {

void BankObserver::access(Thread& thread, const Instruction& instruction, Space space, uint64_t address, uint32_t size,
                          Access access) {
  if (space != Space::shared || access == Access::atomic) return;
  const bool ordinary = instruction.text[2] == '.';  // ld. and st.: matrix instructions count themselves
  if (!ordinary || size > 16) return;
  Site& site = waves_[{thread.warp, &instruction}];
  const uint64_t number = site.executed[thread.lane]++;
  while (site.first + site.open.size() <= number) site.open.emplace_back();
  Wave& wave = site.open[number - site.first];
  wave.mask |= 1u << thread.lane;
  wave.size = size;
  wave.addresses[thread.lane] = address;
  while (!site.open.empty() && site.open.front().mask == thread.warp->lanes) {
    count(*thread.block, site.open.front());
    site.open.pop_front();
    ++site.first;
  }
}

void BankObserver::blockEnds(Block& block) {
  for (const auto& [key, site] : waves_) {
    for (const Wave& wave : site.open) count(block, wave);
  }
  waves_.clear();
}

void BankObserver::count(const Block& block, const Wave& wave) {
  const uint32_t lanes = wave.size <= 4 ? 32 : 128 / wave.size;
  BankCounts& counts = bankCounts(block.kernel);
  for (uint32_t begin = 0; begin < 32; begin += lanes) {
    std::array<uint64_t, 32> phase;
    size_t n = 0;
    for (uint32_t lane = begin; lane < begin + lanes; ++lane) {
      if (wave.mask >> lane & 1) phase[n++] = wave.addresses[lane];
    }
    if (n == 0) continue;
    counts.scalarPasses.fetch_add(bankPasses({phase.data(), n}, wave.size), std::memory_order_relaxed);
    counts.scalarIdeal.fetch_add(1, std::memory_order_relaxed);
  }
}

}  // namespace flowmap::simt
