// Captures and graphs of the fake runtime.
#pragma once

#include <thread>

#include "../check.cuh"

namespace selftest {

inline __global__ void addTo(int* cell, int value) { *cell += value; }
inline __global__ void setTo(int* cell, int value) { *cell = value; }

inline cudaStreamCaptureStatus statusOf(cudaStream_t stream) {
  cudaStreamCaptureStatus status;
  cudaStreamIsCapturing(stream, &status);
  return status;
}

/** What `work` puts on the stream, ready to be launched. */
template <class Work>
cudaGraphExec_t captured(cudaStream_t stream, Work work) {
  cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed);
  work();
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaStreamEndCapture(stream, &graph);
  cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  return executable;
}

/** Nothing happens at the capture; at each launch everything, with the arguments of the capture. */
inline bool captureRunsNothing() {
  Stream stream;
  Device<int> cell(1);
  int value = 5;
  const cudaGraphExec_t graph = captured(stream.handle, [&] {
    cudaMemsetAsync(cell.data, 0, 4, stream.handle);
    addTo<<<1, 1, 0, stream.handle>>>(cell.data, value);
    addTo<<<1, 1, 0, stream.handle>>>(cell.data, 2);
    value = 100;
  });
  setTo<<<1, 1, 0, stream.handle>>>(cell.data, 50);
  cudaStreamSynchronize(stream.handle);
  const bool untouched = cell.read()[0] == 50 && statusOf(stream.handle) == cudaStreamCaptureStatusNone;
  bool right = true;
  for (int i = 0; i < 2; ++i) {
    addTo<<<1, 1, 0, stream.handle>>>(cell.data, 1000);
    right &= cudaGraphLaunch(graph, stream.handle) == cudaSuccess;
    cudaStreamSynchronize(stream.handle);
    right &= cell.read()[0] == 7;
  }
  // Destroyed before it has run, it runs.
  setTo<<<1, 1, 0, stream.handle>>>(cell.data, 1);
  cudaGraphLaunch(graph, stream.handle);
  right &= cudaGraphExecDestroy(graph) == cudaSuccess;
  cudaStreamSynchronize(stream.handle);
  return untouched && right && cell.read()[0] == 7;
}

/** Copies, from the host too, read their source each time. */
inline bool replayReadsAnew() {
  Stream stream;
  Device<int> cells(2);
  int *host, *back;
  cudaMallocHost(reinterpret_cast<void**>(&host), 4);
  cudaMallocHost(reinterpret_cast<void**>(&back), 4);
  const cudaGraphExec_t graph = captured(stream.handle, [&] {
    cudaMemcpyAsync(cells.data, host, 4, cudaMemcpyHostToDevice, stream.handle);
    addTo<<<1, 1, 0, stream.handle>>>(cells.data, 1);
    cudaMemcpyAsync(cells.data + 1, cells.data, 4, cudaMemcpyDeviceToDevice, stream.handle);
    cudaMemcpyAsync(back, cells.data + 1, 4, cudaMemcpyDeviceToHost, stream.handle);
  });
  bool right = true;
  for (int i = 0; i < 2; ++i) {
    *host = 10 * i;
    cudaGraphLaunch(graph, stream.handle);
    cudaStreamSynchronize(stream.handle);
    right &= *back == 10 * i + 1;
  }
  cudaGraphExecDestroy(graph);
  cudaFreeHost(host);
  cudaFreeHost(back);
  return right;
}

inline bool captureRefusesWaits() {
  Stream stream;
  Device<int> cell(1);
  cudaGraph_t graph;
  bool right = true;
  const auto refused = [&](auto call) {
    cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeRelaxed);
    addTo<<<1, 1, 0, stream.handle>>>(cell.data, 1);
    right &= call() == cudaErrorStreamCaptureUnsupported;
    right &= statusOf(stream.handle) == cudaStreamCaptureStatusInvalidated;
    addTo<<<1, 1, 0, stream.handle>>>(cell.data, 1);
    right &= cudaGetLastError() == cudaErrorStreamCaptureInvalidated;
    right &= cudaStreamEndCapture(stream.handle, &graph) == cudaErrorStreamCaptureInvalidated && graph == nullptr;
    cudaGetLastError();
  };
  refused([&] { return cudaStreamSynchronize(stream.handle); });
  refused([&] { return cudaStreamQuery(stream.handle); });
  refused([&] { return cudaDeviceSynchronize(); });
  cudaStreamSynchronize(stream.handle);
  return right && cell.read()[0] == 0;
}

/** Memory may be taken beside a relaxed capture; a thread's own capture forbids it to the thread, a global one to all.
 */
inline bool captureModes() {
  Stream stream;
  cudaGraph_t graph;
  const auto during = [&](cudaStreamCaptureMode mode, bool elsewhere) {
    cudaStreamBeginCapture(stream.handle, mode);
    cudaError_t error = cudaSuccess;
    const auto take = [&] {
      void* block = nullptr;
      error = cudaMalloc(&block, 16);
      if (error == cudaSuccess) cudaFree(block);
    };
    if (elsewhere) {
      std::thread(take).join();
    } else {
      take();
    }
    const cudaError_t ended = cudaStreamEndCapture(stream.handle, &graph);
    if (ended == cudaSuccess) cudaGraphDestroy(graph);
    cudaGetLastError();
    return error == cudaSuccess ? ended : ended == cudaErrorStreamCaptureInvalidated ? error : cudaErrorUnknown;
  };
  bool right = during(cudaStreamCaptureModeRelaxed, false) == cudaSuccess &&
               during(cudaStreamCaptureModeRelaxed, true) == cudaSuccess &&
               during(cudaStreamCaptureModeThreadLocal, true) == cudaSuccess &&
               during(cudaStreamCaptureModeThreadLocal, false) == cudaErrorStreamCaptureUnsupported &&
               during(cudaStreamCaptureModeGlobal, true) == cudaErrorStreamCaptureUnsupported;
  cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal);
  cudaError_t ended = cudaSuccess;
  std::thread([&] { ended = cudaStreamEndCapture(stream.handle, &graph); }).join();
  cudaStreamEndCapture(stream.handle, &graph);
  cudaGetLastError();
  return right && ended == cudaErrorStreamCaptureWrongThread;
}

inline bool captureIsolation() {
  Stream stream, other, blocking(cudaStreamDefault);
  Device<int> cell(1);
  cudaGraph_t graph;
  cudaEvent_t before, inside;
  cudaEventCreateWithFlags(&before, cudaEventDisableTiming);
  cudaEventCreateWithFlags(&inside, cudaEventDisableTiming);
  setTo<<<1, 1, 0, other.handle>>>(cell.data, 3);
  cudaEventRecord(before, other.handle);
  cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeRelaxed);
  cudaEventRecord(inside, stream.handle);
  bool right = cudaEventSynchronize(inside) == cudaErrorCapturedEvent && cudaEventSynchronize(before) == cudaSuccess;
  right &= cudaStreamWaitEvent(stream.handle, before, 0) == cudaErrorStreamCaptureIsolation;
  right &= cudaStreamEndCapture(stream.handle, &graph) == cudaErrorStreamCaptureInvalidated;
  cudaStreamBeginCapture(blocking.handle, cudaStreamCaptureModeRelaxed);
  setTo<<<1, 1>>>(cell.data, 4);
  cudaGetLastError();
  right &= cudaStreamEndCapture(blocking.handle, &graph) == cudaErrorStreamCaptureInvalidated;
  cudaEventDestroy(before);
  cudaEventDestroy(inside);
  cudaGetLastError();
  return right && cell.read()[0] == 3;
}

inline bool captureStates() {
  Stream stream;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  bool right = cudaStreamEndCapture(stream.handle, &graph) == cudaErrorIllegalState;
  right &= cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed) == cudaErrorStreamCaptureUnsupported;
  cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeRelaxed);
  right &= cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeRelaxed) == cudaErrorIllegalState;
  right &= statusOf(stream.handle) == cudaStreamCaptureStatusActive;
  cudaStreamEndCapture(stream.handle, &graph);
  // An empty graph is a graph.
  right &= cudaGraphInstantiate(&executable, graph, 0) == cudaSuccess;
  right &= cudaGraphLaunch(executable, stream.handle) == cudaSuccess;
  right &= cudaGraphDestroy(graph) == cudaSuccess && cudaGraphDestroy(graph) == cudaErrorInvalidValue;
  right &= cudaGraphExecDestroy(executable) == cudaSuccess;
  right &= cudaGraphLaunch(executable, stream.handle) == cudaErrorInvalidValue;
  cudaGetLastError();
  return right;
}

/** A defect in a graph is one of the device, found when it runs. */
inline bool graphFaults() {
  Stream stream;
  Device<int> cell(1);
  const cudaGraphExec_t graph = captured(stream.handle, [&] { setTo<<<1, 1, 0, stream.handle>>>(cell.data + 64, 1); });
  const bool quiet = cudaStreamSynchronize(stream.handle) == cudaSuccess;
  cudaGraphLaunch(graph, stream.handle);
  return quiet && cudaStreamSynchronize(stream.handle) == cudaErrorLaunchFailure;
}

}  // namespace selftest
