// Entry points that launch kernels or ask about them.
#include "../launch.h"

#include <cuda_runtime_api.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "../memory.h"
#include "../options.h"
#include "clusters.h"
#include "guarded.h"
#include "modules.h"
#include "streams.h"

using namespace flowmap::simt;

namespace {

// Shared memory of a block by default.
constexpr uint32_t kDefaultShared = 48 * 1024;

struct Limits {
  std::mutex mutex;
  std::unordered_map<const Kernel*, int> dynamicShared;  // cudaFuncAttributeMaxDynamicSharedMemorySize
};
Limits& limits() {
  static Limits& all = *new Limits;
  return all;
}

uint32_t dynamicLimit(const Kernel& kernel) {
  const std::lock_guard lock(limits().mutex);
  const auto found = limits().dynamicShared.find(&kernel);
  return found == limits().dynamicShared.end() ? kDefaultShared - std::min(kernel.sharedBytes, kDefaultShared)
                                               : uint32_t(found->second);
}

bool fits(dim3 grid, dim3 block, const Kernel& kernel) {
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  return grid.x > 0 && grid.y > 0 && grid.z > 0 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535 &&
         threads > 0 && threads <= 1024 && block.z <= 64 && threads <= kernel.maxThreads;
}

cudaError_t launch(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared, cudaStream_t stream,
                   const dim3* asked = nullptr) {
  uint64_t id;
  if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
  const Kernel* kernel = findKernel(function);
  if (!kernel) return cudaErrorInvalidDeviceFunction;
  if (!fits(grid, block, *kernel)) return cudaErrorInvalidConfiguration;
  if (shared > dynamicLimit(*kernel)) return cudaErrorInvalidValue;
  ClusterShape cluster;
  if (const cudaError_t refused = clusterOf(*kernel, grid, asked, cluster)) return refused;
  auto work = std::make_shared<Launch>();
  work->kernel = kernel;
  work->grid = {grid.x, grid.y, grid.z};
  work->block = {block.x, block.y, block.z};
  work->cluster = cluster.size;
  work->explicitCluster = cluster.named;
  work->dynamicSharedBytes = uint32_t(shared);
  work->parameters.resize(kernel->parameterBytes);
  for (size_t p = 0; p < kernel->parameters.size(); ++p) {
    const Parameter& parameter = kernel->parameters[p];
    std::memcpy(work->parameters.data() + parameter.offset, arguments[p], parameter.size);
  }
  enqueue(id, [work] { run(*work, deviceMemory()); });
  return cudaSuccess;
}

int residentBlocks(const Kernel& kernel, size_t threads, size_t shared) {
  const size_t bytes = kernel.sharedBytes + shared + 1024;
  const size_t byThreads = 2048 / ((threads + 31) / 32 * 32), byShared = size_t(maxShared() + 1024) / bytes;
  return int(std::min<size_t>({byThreads, byShared, 32}));
}

struct Configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};
thread_local std::vector<Configuration> configurations;

}  // namespace

extern "C" {

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, CUstream_st* stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  if (configurations.empty()) return cudaErrorMissingConfiguration;
  const Configuration c = configurations.back();
  configurations.pop_back();
  *grid = c.grid, *block = c.block, *shared = c.shared;
  std::memcpy(stream, &c.stream, sizeof c.stream);
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void** arguments, size_t shared,
                               cudaStream_t stream) {
  return guarded([&] { return launch(kernel, grid, block, arguments, shared, stream); });
}
cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void** arguments, size_t shared,
                             cudaStream_t stream) {
  return guarded([&] { return launch(function, grid, block, arguments, shared, stream); });
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* function, void** arguments) {
  return guarded([&] {
    const dim3* cluster = nullptr;
    if (const cudaError_t refused = readAttributes(*config, cluster)) return refused;
    return launch(function, config->gridDim, config->blockDim, arguments, config->dynamicSmemBytes, config->stream,
                  cluster);
  });
}

cudaError_t cudaFuncSetAttribute(const void* function, cudaFuncAttribute attribute, int value) {
  return guarded([&] {
    const Kernel* kernel = findKernel(function);
    if (!kernel) return cudaErrorInvalidDeviceFunction;
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (attribute == cudaFuncAttributeNonPortableClusterSizeAllowed) {
      allowLargeClusters(*kernel, value != 0);
      return cudaSuccess;
    }
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorNotSupported;
    if (value < 0 || uint32_t(value) + kernel->sharedBytes > maxShared()) return cudaErrorInvalidValue;
    const std::lock_guard lock(limits().mutex);
    limits().dynamicShared[kernel] = value;
    return cudaSuccess;
  });
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, const void* function) {
  return guarded([&] {
    const Kernel* kernel = findKernel(function);
    if (!kernel) return cudaErrorInvalidDeviceFunction;
    *attributes = {};
    attributes->sharedSizeBytes = kernel->sharedBytes;
    attributes->localSizeBytes = kernel->localBytes;
    attributes->maxThreadsPerBlock = int(kernel->maxThreads);
    attributes->numRegs = 32;  // PTX does not say; ptxas's report is where budgets are checked
    attributes->maxDynamicSharedSizeBytes = int(dynamicLimit(*kernel));
    attributes->ptxVersion = attributes->binaryVersion = options().sm;
    return cudaSuccess;
  });
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void* function, int threads,
                                                                   size_t shared, unsigned) {
  return guarded([&] {
    const Kernel* kernel = findKernel(function);
    if (!kernel) return cudaErrorInvalidDeviceFunction;
    if (threads <= 0) return cudaErrorInvalidValue;
    *blocks = residentBlocks(*kernel, size_t(threads), shared);
    return cudaSuccess;
  });
}
// As if all multiprocessors could share clusters.
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* function, const cudaLaunchConfig_t* config) {
  return guarded([&] {
    const Kernel* kernel = findKernel(function);
    if (!kernel) return cudaErrorInvalidDeviceFunction;
    const dim3* asked = nullptr;
    if (const cudaError_t refused = readAttributes(*config, asked)) return refused;
    ClusterShape cluster;
    if (const cudaError_t refused = clusterOf(*kernel, config->gridDim, asked, cluster)) return refused;
    const dim3 block = config->blockDim;
    const int blocks = residentBlocks(*kernel, size_t(block.x) * block.y * block.z, config->dynamicSmemBytes);
    *clusters = blocks * int(multiprocessors()) / int(cluster.size.count());
    return cudaSuccess;
  });
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* function, int threads,
                                                          size_t shared) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, threads, shared, 0);
}
}

/** For measurements: PTX instructions run so far. */
extern "C" uint64_t simtExecutedInstructions() { return executedInstructions(); }
