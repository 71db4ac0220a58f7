// Blocks of a grid, shared among OS threads. Which thread runs which block does not matter: blocks are independent, or
// (with atomics on global memory) run in order on one thread.
#include "launch.h"

#include <atomic>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>

#include "options.h"

namespace flowmap::simt {

namespace {

std::atomic<uint64_t> executed{0};

struct Work {
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  uint64_t failedBlock = std::numeric_limits<uint64_t>::max();
  std::exception_ptr failure;
};

void runBlocks(const Launch& launch, DeviceMemory& memory, LaunchObserver* observer, Work& work) {
  Block block(launch, memory, observer, options().seed);
  const uint64_t count = launch.grid.count();
  for (uint64_t b; (b = work.next.fetch_add(1)) < count;) {
    const Index3 grid = launch.grid;
    try {
      block.run({uint32_t(b % grid.x), uint32_t(b / grid.x % grid.y), uint32_t(b / (uint64_t(grid.x) * grid.y))});
    } catch (...) {
      const std::lock_guard lock(work.mutex);
      if (b < work.failedBlock) work.failedBlock = b, work.failure = std::current_exception();
      work.next = count;
    }
    executed += block.instructions;
  }
}

}  // namespace

uint64_t executedInstructions() { return executed; }

void run(const Launch& launch, DeviceMemory& memory) {
  const std::unique_ptr<LaunchObserver> observer = observe(launch);
  Work work;
  const uint64_t workers = launch.kernel->ordered ? 1 : std::min<uint64_t>(options().workers, launch.grid.count());
  std::vector<std::thread> others;
  for (uint64_t w = 1; w < workers; ++w) {
    others.emplace_back([&] { runBlocks(launch, memory, observer.get(), work); });
  }
  runBlocks(launch, memory, observer.get(), work);
  for (std::thread& other : others) other.join();
  if (work.failure) std::rethrow_exception(work.failure);
  if (observer) observer->launchEnds();
}

}  // namespace flowmap::simt
