// Counting and printing of bank conflicts.
#include "banks.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

namespace flowmap::simt {

namespace {

constexpr uint32_t kBanks = 32, kBankBytes = 4, kLanes = 32;

bool statisticsAsked() {
  const char* text = std::getenv("SIMT_STATS");
  return text && std::strcmp(text, "1") == 0;
}

class Registry {
 public:
  Registry() : scalars(statisticsAsked()), prints_(statisticsAsked()) {}
  ~Registry() {
    if (!prints_) return;
    for (const auto& [name, counts] : kernels_) {
      std::fprintf(stderr, "%s: ldmatrix %.2f passes per ideal, ld/st.shared %.2f\n", name.c_str(),
                   double(counts.matrixPasses) / double(std::max<uint64_t>(1, counts.matrixIdeal)),
                   double(counts.scalarPasses) / double(std::max<uint64_t>(1, counts.scalarIdeal)));
    }
  }
  BankCounts& of(const std::string& name) {
    const std::lock_guard lock(mutex_);
    return kernels_[name];
  }
  SimtBanks total(const char* part) {
    const std::lock_guard lock(mutex_);
    SimtBanks sum{};
    for (const auto& [name, counts] : kernels_) {
      if (name.find(part) == std::string::npos) continue;
      sum.matrixPasses += counts.matrixPasses;
      sum.matrixIdeal += counts.matrixIdeal;
      sum.scalarPasses += counts.scalarPasses;
      sum.scalarIdeal += counts.scalarIdeal;
    }
    return sum;
  }
  void reset() {
    const std::lock_guard lock(mutex_);
    for (auto& [name, counts] : kernels_) {
      counts.matrixPasses = counts.matrixIdeal = counts.scalarPasses = counts.scalarIdeal = 0;
    }
  }
  std::atomic<bool> scalars;

 private:
  std::map<std::string, BankCounts> kernels_;
  std::mutex mutex_;
  bool prints_;
};

Registry& registry() {
  static Registry all;
  return all;
}

}  // namespace

uint32_t bankPasses(std::span<const uint64_t> addresses, uint32_t size) {
  // The different words of each bank: an address has at most one in it, if its access is no longer than all banks.
  std::array<uint8_t, kBanks> counts{};
  std::array<std::array<uint64_t, kLanes>, kBanks> words;
  if (addresses.size() > kLanes || size > kBanks * kBankBytes) throw std::logic_error("bankPasses: more than a warp's");
  uint32_t worst = addresses.empty() ? 0 : 1;
  for (const uint64_t address : addresses) {
    for (uint64_t word = address / kBankBytes; word <= (address + size - 1) / kBankBytes; ++word) {
      const auto bank = words[word % kBanks].begin();
      uint8_t& count = counts[word % kBanks];
      if (std::find(bank, bank + count, word) != bank + count) continue;
      bank[count++] = word;
      worst = std::max<uint32_t>(worst, count);
    }
  }
  return worst;
}

BankCounts& bankCounts(const Kernel& kernel) {
  thread_local const Kernel* last = nullptr;
  thread_local BankCounts* counts = nullptr;
  // A kernel's address may be used again by another one after its module is unloaded: the name decides.
  thread_local std::string name;
  if (last != &kernel || name != kernel.readable) {
    last = &kernel;
    name = kernel.readable;
    counts = &registry().of(name);
  }
  return *counts;
}

bool countsScalarBanks() { return registry().scalars; }

}  // namespace flowmap::simt

SimtBanks simtBanks(const char* kernel) { return flowmap::simt::registry().total(kernel); }

void simtCountBanks(int scalarsToo) {
  flowmap::simt::registry().reset();
  flowmap::simt::registry().scalars = scalarsToo != 0;
}
