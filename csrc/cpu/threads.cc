#include "cpu/threads.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <fstream>

#include "core/error.h"
#include "cpu/team.h"

namespace flowmap::cpu {
namespace {

std::atomic<int64_t> chosen{0};  // 0: not decided yet

// The processor time a container is granted, in whole processors; OpenMP sees only the affinity mask.
int64_t quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string granted;
  double period = 0;
  if (!(file >> granted >> period) || granted == "max" || period <= 0) return kMaxThreads;
  return std::max<int64_t>(1, static_cast<int64_t>(std::strtod(granted.c_str(), nullptr) / period));
}

int64_t decide() {
  const char* text = std::getenv("FLOWMAP_THREADS");
  if (!text) {
    const int64_t picked = std::min(omp_get_max_threads(), omp_get_num_procs());
    return std::clamp<int64_t>(std::min(picked, quota()), 1, kMaxThreads);
  }
  const std::string given(text);
  int64_t count = 0;
  const auto [end, problem] = std::from_chars(given.data(), given.data() + given.size(), count);
  if (problem != std::errc() || end != given.data() + given.size() || count < 1 || count > kMaxThreads) {
    fail(ErrorCode::Argument, "threads", "FLOWMAP_THREADS must be an integer from 1 to ", kMaxThreads, ", got '", given,
         "'");
  }
  return count;
}

}  // namespace

int64_t threads() {
  int64_t count = chosen.load();
  if (count != 0) return count;
  const int64_t decided = decide();
  return chosen.compare_exchange_strong(count, decided) ? decided : count;
}

void setThreads(int64_t count) { chosen.store(count); }

void applyThreads(int64_t count) { setTeamSize(count); }

}  // namespace flowmap::cpu
