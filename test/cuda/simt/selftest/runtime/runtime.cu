// The fake runtime: streams that run only when waited for, events, memory limits, errors that stick, and errors that do
// not. Graphs: graphs.cuh.
#include <cassert>
#include <thread>

#include "graphs.cuh"

namespace {

using selftest::Device;
using selftest::Stream;

__global__ void increment(int* values, int n) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) values[i] += 1;
}

__global__ void store(int* to, int value) { *to = value; }

__global__ void copyOne(int* to, const int* from) { *to = *from; }

__global__ void stop(int how) {
  if (how == 1) __trap();
  if (how == 2) assert(how == 3);
}

__constant__ int weights[4] = {1, 2, 3, 4};
__device__ int counter = 5;

__global__ void readSymbols(int* out) { out[threadIdx.x] = weights[threadIdx.x] + counter; }

__global__ void fillShared(int* out) {
  extern __shared__ int cells[];
  cells[threadIdx.x * 256] = int(threadIdx.x);
  __syncthreads();
  out[threadIdx.x] = cells[(blockDim.x - 1 - threadIdx.x) * 256];
}

struct Pinned {
  explicit Pinned(int n) { cudaMallocHost(reinterpret_cast<void**>(&data), size_t(n) * sizeof(int)); }
  ~Pinned() { cudaFreeHost(data); }
  int* data = nullptr;
};

/** Nothing arrives before something waits; then everything has. */
bool streamsAreLazy() {
  Stream stream;
  Device<int> values(100);
  Pinned host(100);
  host.data[0] = host.data[99] = 7;
  increment<<<1, 128, 0, stream.handle>>>(values.data, 100);
  cudaMemcpyAsync(host.data, values.data, 400, cudaMemcpyDeviceToHost, stream.handle);
  const bool poisoned = host.data[0] == -1 && host.data[99] == -1;
  cudaStreamSynchronize(stream.handle);
  return poisoned && host.data[0] == 1 && host.data[99] == 1;
}

/** A second stream that does not wait for the first reads what was never written; with the event it reads the value. */
template <bool Waits>
bool runTwoStreams() {
  Stream first, second;
  int* cell;
  cudaMalloc(reinterpret_cast<void**>(&cell), 8);
  store<<<1, 1, 0, first.handle>>>(cell, 42);
  cudaEvent_t event;
  cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
  cudaEventRecord(event, first.handle);
  if (Waits) cudaStreamWaitEvent(second.handle, event, 0);
  copyOne<<<1, 1, 0, second.handle>>>(cell + 1, cell);
  const bool right = cudaStreamSynchronize(second.handle) == cudaSuccess;
  int values[2] = {};
  cudaMemcpy(values, cell, 8, cudaMemcpyDeviceToHost);
  cudaEventDestroy(event);
  return right && values[1] == 42;
}

/** A pinned source is read when the copy runs; a pageable one when it is called. */
bool copiesReadTheirSource() {
  Stream stream;
  Device<int> values(2);
  Pinned host(1);
  int pageable = 5;
  host.data[0] = 5;
  cudaMemcpyAsync(values.data, host.data, 4, cudaMemcpyHostToDevice, stream.handle);
  cudaMemcpyAsync(values.data + 1, &pageable, 4, cudaMemcpyHostToDevice, stream.handle);
  host.data[0] = pageable = 6;
  cudaStreamSynchronize(stream.handle);
  const std::vector<int> got = values.read();
  return got[0] == 6 && got[1] == 5;
}

/** A buffer that goes to the device and back in one stream is not spoilt by the poison of its return. */
bool roundTrip() {
  Stream stream;
  Device<int> values(1);
  Pinned host(1);
  host.data[0] = 5;
  cudaMemcpyAsync(values.data, host.data, 4, cudaMemcpyHostToDevice, stream.handle);
  increment<<<1, 1, 0, stream.handle>>>(values.data, 1);
  cudaMemcpyAsync(host.data, values.data, 4, cudaMemcpyDeviceToHost, stream.handle);
  cudaStreamSynchronize(stream.handle);
  return host.data[0] == 6;
}

/** Streams of the blocking kind and the default stream wait for each other. */
bool defaultStream() {
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamDefault);
  Device<int> values(1);
  increment<<<1, 1, 0, stream>>>(values.data, 1);
  increment<<<1, 1>>>(values.data, 1);
  increment<<<1, 1, 0, stream>>>(values.data, 1);
  cudaStreamSynchronize(stream);
  cudaStreamDestroy(stream);
  return values.read()[0] == 3;
}

bool eventsTakeTime() {
  Stream stream;
  Device<int> values(4096);
  cudaEvent_t start, end;
  cudaEventCreate(&start);
  cudaEventCreate(&end);
  cudaEventRecord(start, stream.handle);
  increment<<<32, 128, 0, stream.handle>>>(values.data, 4096);
  cudaEventRecord(end, stream.handle);
  float milliseconds = -1;
  const bool early = cudaEventElapsedTime(&milliseconds, start, end) == cudaErrorNotReady;
  cudaEventSynchronize(end);
  const bool done = cudaEventElapsedTime(&milliseconds, start, end) == cudaSuccess;
  cudaEventDestroy(start);
  cudaEventDestroy(end);
  return early && done && milliseconds > 0;
}

bool symbols() {
  const int fresh[2] = {30, 40};
  cudaMemcpyToSymbol(weights, fresh, 8, 8);
  Device<int> out(4);
  readSymbols<<<1, 4>>>(out.data);
  int value = 0;
  cudaMemcpyFromSymbol(&value, counter, 4);
  return out.read() == std::vector<int>{6, 7, 35, 45} && value == 5;
}

/** SIMT_MEMORY bounds the device; what failed leaves everything usable. */
bool outOfMemory() {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  void *all = nullptr, *more = nullptr;
  const bool fits = cudaMalloc(&all, free - (1 << 20)) == cudaSuccess;
  const bool fails = cudaMalloc(&more, 1 << 21) == cudaErrorMemoryAllocation && more == nullptr;
  const bool once = cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess;
  cudaFree(all);
  const bool again = cudaMalloc(&more, 1 << 21) == cudaSuccess;
  cudaFree(more);
  size_t freeAfter = 0;
  cudaMemGetInfo(&freeAfter, &total);
  return fits && fails && once && again && free == freeAfter;
}

bool largeSharedMemory() {
  Device<int> out(64);
  fillShared<<<1, 64, 64 * 1024>>>(out.data);
  const bool refused = cudaGetLastError() == cudaErrorInvalidValue;
  cudaFuncSetAttribute(fillShared, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024);
  fillShared<<<1, 64, 64 * 1024>>>(out.data);
  const std::vector<int> got = out.read();
  return refused && got[0] == 63 && got[63] == 0;
}

bool badLaunches() {
  Device<int> values(1);
  increment<<<0, 32>>>(values.data, 1);
  const bool empty = cudaGetLastError() == cudaErrorInvalidConfiguration;
  increment<<<1, 1025>>>(values.data, 1);
  return empty && cudaGetLastError() == cudaErrorInvalidConfiguration;
}

/** After a kernel failed every call says so, with the report, until the device is reset. */
bool failuresStick() {
  Device<int> values(1);
  store<<<1, 1>>>(values.data + 64, 1);
  const cudaError_t error = cudaDeviceSynchronize();
  void* pointer = nullptr;
  const bool sticks = error == cudaErrorLaunchFailure && cudaMalloc(&pointer, 4) == error &&
                      cudaGetLastError() == error && cudaGetLastError() == error;
  const bool says =
      std::string(cudaGetErrorString(error)).find("past the end of an allocation of 4 bytes") != std::string::npos;
  cudaDeviceReset();
  return sticks && says && values.read()[0] == 0;
}

template <int How>
bool runStop() {
  stop<<<1, 1>>>(How);
  return cudaDeviceSynchronize() == cudaSuccess;
}

/** Host threads that use the device at once do not disturb each other. */
bool severalThreads() {
  constexpr int kHosts = 4;
  bool right[kHosts] = {};
  std::vector<std::thread> hosts;
  for (int h = 0; h < kHosts; ++h) {
    hosts.emplace_back([&right, h] {
      Stream stream;
      Device<int> values(1000);
      Pinned host(1000);
      for (int i = 0; i < 20; ++i) increment<<<8, 128, 0, stream.handle>>>(values.data, 1000);
      cudaMemcpyAsync(host.data, values.data, 4000, cudaMemcpyDeviceToHost, stream.handle);
      cudaStreamSynchronize(stream.handle);
      right[h] = host.data[0] == 20 && host.data[999] == 20;
    });
  }
  for (std::thread& host : hosts) host.join();
  return right[0] && right[1] && right[2] && right[3];
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"streamsAreLazy", streamsAreLazy},
                             {"twoStreams", runTwoStreams<true>},
                             {"noWaitForEvent", runTwoStreams<false>},
                             {"copiesReadTheirSource", copiesReadTheirSource},
                             {"roundTrip", roundTrip},
                             {"defaultStream", defaultStream},
                             {"eventsTakeTime", eventsTakeTime},
                             {"symbols", symbols},
                             {"outOfMemory", outOfMemory},
                             {"largeSharedMemory", largeSharedMemory},
                             {"badLaunches", badLaunches},
                             {"failuresStick", failuresStick},
                             {"noStop", runStop<0>},
                             {"trap", runStop<1>},
                             {"assertion", runStop<2>},
                             {"severalThreads", severalThreads},
                             {"captureRunsNothing", selftest::captureRunsNothing},
                             {"replayReadsAnew", selftest::replayReadsAnew},
                             {"captureRefusesWaits", selftest::captureRefusesWaits},
                             {"captureModes", selftest::captureModes},
                             {"captureIsolation", selftest::captureIsolation},
                             {"captureStates", selftest::captureStates},
                             {"graphFaults", selftest::graphFaults}},
                            count, arguments);
}
