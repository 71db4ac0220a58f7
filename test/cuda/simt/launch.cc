// Clusters of a grid (most of one block), shared among OS threads. Which thread runs which does not matter: they are
// independent, or (with atomics on global memory) run in order on one thread.
#include "launch.h"

#include <atomic>
#include <exception>
#include <limits>
#include <mutex>
#include <thread>

#include "cluster.h"
#include "options.h"

namespace flowmap::simt {

namespace {

std::atomic<uint64_t> executed{0};

struct Work {
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  uint64_t failed = std::numeric_limits<uint64_t>::max();
  std::exception_ptr failure;
};

Index3 clustersOf(const Launch& launch) {
  const Index3 grid = launch.grid, shape = launch.cluster;
  return {grid.x / shape.x, grid.y / shape.y, grid.z / shape.z};
}

void runClusters(const Launch& launch, DeviceMemory& memory, LaunchObserver* observer, Work& work) {
  Cluster cluster(launch, memory, observer, options().seed);
  const Index3 clusters = clustersOf(launch);
  const uint64_t count = clusters.count();
  for (uint64_t c; (c = work.next.fetch_add(1)) < count;) {
    try {
      cluster.run(clusters.at(c));
    } catch (...) {
      const std::lock_guard lock(work.mutex);
      if (c < work.failed) work.failed = c, work.failure = std::current_exception();
      work.next = count;
    }
    executed += cluster.instructions();
  }
}

}  // namespace

uint64_t executedInstructions() { return executed; }

void run(const Launch& launch, DeviceMemory& memory) {
  const std::unique_ptr<LaunchObserver> observer = observe(launch);
  Work work;
  const uint64_t workers =
      launch.kernel->ordered ? 1 : std::min<uint64_t>(options().workers, clustersOf(launch).count());
  std::vector<std::thread> others;
  for (uint64_t w = 1; w < workers; ++w) {
    others.emplace_back([&] { runClusters(launch, memory, observer.get(), work); });
  }
  runClusters(launch, memory, observer.get(), work);
  for (std::thread& other : others) other.join();
  if (work.failure) std::rethrow_exception(work.failure);
  if (observer) observer->launchEnds();
}

}  // namespace flowmap::simt
