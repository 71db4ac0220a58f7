// Error state, and its entry points.
#include "errors.h"

#include <cuda_runtime_api.h>

#include <deque>
#include <mutex>

#include "guarded.h"

namespace flowmap::simt {

namespace {

std::mutex mutex;
cudaError_t sticky = cudaSuccess;
// Texts that were handed out stay valid.
std::deque<std::string>& reports() {
  static auto& all = *new std::deque<std::string>;
  return all;
}
const char* stickyReport = nullptr;

thread_local cudaError_t last = cudaSuccess;
thread_local cudaError_t explained = cudaSuccess;
thread_local const char* explanation = nullptr;

struct Name {
  cudaError_t error;
  const char *name, *text;
};
constexpr Name kNames[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInvalidSymbol, "cudaErrorInvalidSymbol", "invalid device symbol"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorInvalidPtx, "cudaErrorInvalidPtx", "a PTX JIT compilation failed"},
    {cudaErrorInvalidClusterSize, "cudaErrorInvalidClusterSize", "invalid cluster size"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorIllegalState, "cudaErrorIllegalState", "the operation cannot be performed in the present state"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"}};

const Name& nameOf(cudaError_t error) {
  for (const Name& name : kNames) {
    if (name.error == error) return name;
  }
  return kNames[sizeof kNames / sizeof *kNames - 1];
}

}  // namespace

cudaError_t note(cudaError_t error) {
  // A sticky failure is the device's, not the host thread's: it goes with a reset.
  if (error != cudaSuccess && error != cudaErrorNotReady && error != deviceError()) last = error;
  return error;
}

void failDevice(cudaError_t error, const std::string& report) {
  const std::lock_guard lock(mutex);
  if (sticky != cudaSuccess) return;
  sticky = error;
  stickyReport = reports().emplace_back(report).c_str();
}

cudaError_t deviceError() {
  const std::lock_guard lock(mutex);
  return sticky;
}

void resetDevice() {
  const std::lock_guard lock(mutex);
  sticky = cudaSuccess;
  last = cudaSuccess;
}

cudaError_t explain(cudaError_t error, const std::string& report) {
  {
    const std::lock_guard lock(mutex);
    explained = error;
    explanation = reports().emplace_back(report).c_str();
  }
  return note(error);
}

}  // namespace flowmap::simt

using namespace flowmap::simt;

extern "C" {

cudaError_t cudaGetLastError() {
  if (const cudaError_t broken = deviceError(); broken != cudaSuccess) return broken;
  const cudaError_t error = last;
  last = cudaSuccess;
  return error;
}

cudaError_t cudaPeekAtLastError() {
  const cudaError_t broken = deviceError();
  return broken != cudaSuccess ? broken : last;
}

const char* cudaGetErrorName(cudaError_t error) { return nameOf(error).name; }

const char* cudaGetErrorString(cudaError_t error) {
  {
    const std::lock_guard lock(mutex);
    if (error == sticky && error != cudaSuccess) return stickyReport;
    if (error == explained && error != cudaSuccess) return explanation;
  }
  return nameOf(error).text;
}
}
