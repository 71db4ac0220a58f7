// Preloaded before the emulated runtime by a test: from the n-th kernel launch on (FAIL_AT_LAUNCH), waiting finds an
// illegal address, and from then on every call does, as it is on a device whose context is lost. Page-locked memory
// runs out at blocks of FAIL_HOST_ALLOC bytes. The n-th end of a capture (FAIL_AT_END_CAPTURE) finds it invalid.
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>

#include "simt/runtime/library.h"

namespace {

std::atomic<int> launches{0};
std::atomic<bool> lost{false};

bool due() {
  static const int at = std::getenv("FAIL_AT_LAUNCH") ? std::atoi(std::getenv("FAIL_AT_LAUNCH")) : 0;
  return at > 0 && launches >= at;
}

template <class F>
F next(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void* kernel, void** arguments) {
  if (lost) return cudaErrorIllegalAddress;
  ++launches;
  static const auto real = next<decltype(&cudaLaunchKernelExC)>("cudaLaunchKernelExC");
  return real(config, kernel, arguments);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (due()) lost = true;
  if (lost) return cudaErrorIllegalAddress;
  static const auto real = next<decltype(&cudaEventSynchronize)>("cudaEventSynchronize");
  return real(event);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (due()) lost = true;
  if (lost) return cudaErrorIllegalAddress;
  static const auto real = next<decltype(&cudaStreamSynchronize)>("cudaStreamSynchronize");
  return real(stream);
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  if (lost) return cudaErrorIllegalAddress;
  static const auto real = next<decltype(&cudaStreamQuery)>("cudaStreamQuery");
  return real(stream);
}

// What the emulated cuBLAS enqueues its work by: it meets a failure before anyone waits.
cudaError_t simtEnqueue(cudaStream_t stream, void (*work)(const void*, SimtDefect*), void* data,
                        void (*release)(void*)) {
  if (due()) lost = true;
  static const auto real = next<decltype(&simtEnqueue)>("simtEnqueue");
  if (!lost) return real(stream, work, data, release);
  release(data);
  return cudaErrorIllegalAddress;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  static const int at = std::getenv("FAIL_AT_END_CAPTURE") ? std::atoi(std::getenv("FAIL_AT_END_CAPTURE")) : 0;
  static std::atomic<int> ends{0};
  static const auto real = next<decltype(&cudaStreamEndCapture)>("cudaStreamEndCapture");
  const cudaError_t status = real(stream, graph);
  if (++ends != at) return status;
  *graph = nullptr;
  return cudaErrorStreamCaptureInvalidated;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  if (lost) return cudaErrorIllegalAddress;
  ++launches;
  static const auto real = next<decltype(&cudaGraphLaunch)>("cudaGraphLaunch");
  return real(graph, stream);
}

cudaError_t cudaHostAlloc(void** block, size_t bytes, unsigned int flags) {
  static const char* const most = std::getenv("FAIL_HOST_ALLOC");
  if (most && bytes >= std::strtoull(most, nullptr, 10)) return cudaErrorMemoryAllocation;
  static const auto real = next<cudaError_t (*)(void**, size_t, unsigned int)>("cudaHostAlloc");
  return real(block, bytes, flags);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (lost) return cudaErrorIllegalAddress;
  static const auto real = next<decltype(&cudaMemcpyAsync)>("cudaMemcpyAsync");
  return real(to, from, bytes, kind, stream);
}
}
