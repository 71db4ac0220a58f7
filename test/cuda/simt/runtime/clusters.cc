// Sizes of clusters: 8 blocks, 16 where the kernel may; sm_90 and later.
#include "clusters.h"

#include <mutex>
#include <set>

#include "../options.h"
#include "../report.h"
#include "errors.h"

namespace flowmap::simt {

namespace {

constexpr uint64_t kPortable = 8, kLargest = 16;

struct Allowed {
  std::mutex mutex;
  std::set<const Kernel*> kernels;
};
Allowed& allowed() {
  static Allowed& all = *new Allowed;
  return all;
}

uint64_t largestOf(const Kernel& kernel) {
  const std::lock_guard lock(allowed().mutex);
  const uint64_t most = allowed().kernels.contains(&kernel) ? kLargest : kPortable;
  return std::min<uint64_t>(most, kernel.maxClusterBlocks);
}

}  // namespace

void allowLargeClusters(const Kernel& kernel, bool allow) {
  const std::lock_guard lock(allowed().mutex);
  if (allow)
    allowed().kernels.insert(&kernel);
  else
    allowed().kernels.erase(&kernel);
}

cudaError_t readAttributes(const cudaLaunchConfig_t& config, const dim3*& cluster) {
  static thread_local dim3 size;
  cluster = nullptr;
  for (unsigned a = 0; a < config.numAttrs; ++a) {
    const cudaLaunchAttribute& attribute = config.attrs[a];
    switch (attribute.id) {
      case cudaLaunchAttributeClusterDimension:
        size = {attribute.val.clusterDim.x, attribute.val.clusterDim.y, attribute.val.clusterDim.z};
        if (options().sm < 90) return explain(cudaErrorNotSupported, "clusters need compute capability 9.0");
        cluster = &size;
        break;
      // Programmatic dependent launch may always serialise.
      case cudaLaunchAttributeProgrammaticStreamSerialization:
      case cudaLaunchAttributeIgnore:
      case cudaLaunchAttributePriority:
        break;
      default:
        return explain(cudaErrorNotSupported, format("the emulator does not know launch attribute %d", attribute.id));
    }
  }
  return cudaSuccess;
}

cudaError_t clusterOf(const Kernel& kernel, dim3 grid, const dim3* asked, ClusterShape& cluster) {
  const auto& required = kernel.clusterSize;
  cluster.named = asked || required[0];
  if (!cluster.named) return cudaSuccess;
  if (required[0]) {
    cluster.size = {required[0], required[1], required[2]};
    const bool same = !asked || (asked->x == required[0] && asked->y == required[1] && asked->z == required[2]);
    if (!same) return explain(cudaErrorInvalidClusterSize, "the kernel was compiled for clusters of another shape");
  } else {
    cluster.size = {asked->x, asked->y, asked->z};
  }
  const Index3 size = cluster.size;
  const uint64_t blocks = size.count(), largest = largestOf(kernel);
  if (blocks == 0 || blocks > largest) {
    return explain(cudaErrorInvalidClusterSize, format("a cluster of %llu blocks, where the kernel may have 1 to %llu",
                                                       (unsigned long long)blocks, (unsigned long long)largest));
  }
  if (grid.x % size.x || grid.y % size.y || grid.z % size.z) {
    return explain(cudaErrorInvalidClusterSize, "the grid is not a multiple of its clusters");
  }
  return cudaSuccess;
}

}  // namespace flowmap::simt
