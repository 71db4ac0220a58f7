// Launching clusters, for the tests of what they do.
#pragma once

#include <initializer_list>

#include "check.cuh"

namespace selftest {

struct ClusterLaunch {
  dim3 grid, block, cluster;
  size_t shared = 0;

  template <class... Params, class... Args>
  cudaError_t operator()(void (*kernel)(Params...), Args... args) const {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim = {cluster.x, cluster.y, cluster.z};
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...);
  }
};

}  // namespace selftest
