// What libflowmap_cuda.so shows the addon: how many devices there are and why not, and how to open one.
#include "core/device_library.h"

#include <cstdio>
#include <sstream>

#include "build_identity.h"
#include "cuda/allocator.h"
#include "cuda/backend.h"
#include "cuda/cublas.h"
#include "cuda/graphs.h"
#include "cuda/timeline.h"
#include "cuda/transfer.h"

namespace flowmap::cuda {
namespace {

std::string versionText(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

int driverVersion() {
  int version = 0;
  if (cudaDriverGetVersion(&version) != cudaSuccess) version = 0;
  cudaGetLastError();
  return version;
}

std::string whyNone(cudaError_t status) {
  const int driver = driverVersion();
  const std::string needed = versionText(CUDART_VERSION / 1000 * 1000);
  if (driver == 0) return "no NVIDIA driver is installed (libcuda.so.1 was not found)";
  if (status == cudaErrorInsufficientDriver || driver / 1000 < CUDART_VERSION / 1000) {
    return "the NVIDIA driver serves CUDA up to " + versionText(driver) + ", this build needs " + needed;
  }
  const std::string has = "the NVIDIA driver (CUDA " + versionText(driver) + ") ";
  if (status == cudaErrorNoDevice || status == cudaSuccess) {
    return has + "sees no device; is one there, and does CUDA_VISIBLE_DEVICES name it?";
  }
  return has + "could not be started: " + cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")";
}

int count(std::string& reason) {
  int found = 0;
  const cudaError_t status = cudaGetDeviceCount(&found);
  cudaGetLastError();
  if (status == cudaSuccess && found > 0) return found;
  reason = whyNone(status);
  return 0;
}

DeviceFacts describe(int ordinal) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, ordinal), "cudaGetDeviceProperties");
  return {properties.name, properties.totalGlobalMem, static_cast<uint64_t>(properties.l2CacheSize), properties.major,
          properties.minor};
}

// The lowest compute capability that kernels were compiled for: "sm_80 sm_90a compute_120" -> 80.
int lowestTarget() {
  std::istringstream targets(FLOWMAP_CUDA_TARGETS);
  int lowest = 1000;
  for (std::string target; targets >> target;) {
    const int number = std::atoi(target.c_str() + target.find('_') + 1);
    if (number < lowest) lowest = number;
  }
  return lowest;
}

DeviceParts open(int ordinal, const std::string& name) {
  try {
    const DeviceFacts facts = describe(ordinal);
    if (facts.major * 10 + facts.minor < lowestTarget()) {
      fail(ErrorCode::DeviceUnavailable, name, facts.name, " has compute capability ", facts.major, ".", facts.minor,
           "; this build's kernels are for ", FLOWMAP_CUDA_TARGETS);
    }
    auto runtime = std::make_shared<Runtime>(ordinal, name);
    auto allocator = std::make_unique<CudaAllocator>(*runtime);
    auto backend = std::make_unique<CudaBackend>(*runtime);
    auto transfer = std::make_unique<CudaTransfer>(*runtime);
    auto timeline = std::make_unique<CudaTimeline>(*runtime);
    auto graphs = std::make_unique<CudaGraphs>(*runtime, *allocator);
    Runtime* const adopted = runtime.get();
    return {std::move(runtime),  std::move(allocator), std::move(backend),
            std::move(transfer), std::move(timeline),  [adopted] { adopted->startStream(); },
            std::move(graphs)};
  } catch (const Error& error) {
    throw Error(ErrorCode::DeviceUnavailable, name, error.detail());
  }
}

ProductLibrary products() { return {cublas().path, cublas().version, cublas().reason}; }

constexpr DeviceLibrary kLibrary{
    FLOWMAP_CUDA_TARGETS, CUDART_VERSION, &driverVersion, &count, &describe, &products, &open};

}  // namespace
}  // namespace flowmap::cuda

extern "C" {
__attribute__((visibility("default"))) const char* flowmapDeviceLibraryIdentity() { return flowmap::kBuildIdentity; }
__attribute__((visibility("default"))) const flowmap::DeviceLibrary* flowmapDeviceLibrary() {
  return &flowmap::cuda::kLibrary;
}
}
