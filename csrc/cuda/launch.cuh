// Starts kernels on the device's stream.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "cuda/runtime.h"

namespace flowmap::cuda {

constexpr int kThreads = 256;

struct Grid {
  dim3 blocks, threads = dim3(kThreads);
  size_t sharedBytes = 0;
};

// A launch in clusters of `blocks` along x.
struct ClusterConfig {
  ClusterConfig(const Runtime& runtime, int blocks, const Grid& grid) {
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {static_cast<unsigned>(blocks), 1, 1};
    config.gridDim = grid.blocks;
    config.blockDim = grid.threads;
    config.dynamicSmemBytes = grid.sharedBytes;
    config.stream = runtime.stream();
    config.attrs = &attribute;
    config.numAttrs = 1;
  }
  ClusterConfig(const ClusterConfig&) = delete;
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t config{};
};

// Blocks of kThreads for n elements, `each` per thread, as many as the device runs at once in a few waves: kernels walk
// the rest in strides of the whole grid. Indices are int64_t.
inline Grid gridFor(const Runtime& runtime, int64_t n, int64_t each = 1) {
  const int64_t needed = (n + kThreads * each - 1) / (kThreads * each);
  const int64_t most = int64_t{32} * runtime.multiprocessors();
  return {dim3(static_cast<unsigned>(std::max<int64_t>(1, std::min(needed, most))))};
}

// Arguments convert to the kernel's parameter types; all are passed by value.
template <class... Params, class... Args>
void launchKernel(const Runtime& runtime, void (*kernel)(Params...), const Grid& grid, Args&&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid.blocks;
  config.blockDim = grid.threads;
  config.dynamicSmemBytes = grid.sharedBytes;
  config.stream = runtime.stream();
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(std::forward<Args>(args))...), "launch");
}

// As launchKernel, in clusters of `blocks` (sm_90); the grid is a multiple of them.
template <class... Params, class... Args>
void launchClusters(const Runtime& runtime, int blocks, void (*kernel)(Params...), const Grid& grid, Args&&... args) {
  const ClusterConfig cluster(runtime, blocks, grid);
  check(cudaLaunchKernelEx(&cluster.config, kernel, static_cast<Params>(std::forward<Args>(args))...), "launch");
}

}  // namespace flowmap::cuda
