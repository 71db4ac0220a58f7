// Entry points of captures and graphs: a graph is what one stream collected, in order.
#include <cuda_runtime_api.h>

#include <memory>
#include <mutex>
#include <unordered_set>

#include "guarded.h"
#include "streams.h"

using namespace flowmap::simt;

// Shared with launches that have not run when a graph is destroyed.
struct CUgraph_st {
  std::shared_ptr<const Nodes> nodes;
};
struct CUgraphExec_st {
  std::shared_ptr<const Nodes> nodes;
};

namespace {

// What has not been destroyed.
struct Live {
  std::mutex mutex;
  std::unordered_set<const void*> all;
  template <class Handle>
  Handle add(Handle handle) {
    const std::lock_guard lock(mutex);
    all.insert(handle);
    return handle;
  }
  bool has(const void* handle) {
    const std::lock_guard lock(mutex);
    return all.count(handle) > 0;
  }
  bool remove(const void* handle) {
    const std::lock_guard lock(mutex);
    return all.erase(handle) > 0;
  }
};
Live& live() {
  static Live& all = *new Live;
  return all;
}

}  // namespace

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  return guarded([&] {
    uint64_t id;
    if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    return beginCapture(id, mode);
  });
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  return guarded([&] {
    uint64_t id;
    if (!graph) return cudaErrorInvalidValue;
    *graph = nullptr;
    if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    Nodes nodes;
    const cudaError_t error = endCapture(id, nodes);
    if (error == cudaSuccess) *graph = live().add(new CUgraph_st{std::make_shared<const Nodes>(std::move(nodes))});
    return error;
  });
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  return guarded([&] {
    uint64_t id;
    if (!status) return cudaErrorInvalidValue;
    if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    *status = captureStatus(id);
    return cudaSuccess;
  });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags) {
  return guarded([&] {
    if (!executable || !live().has(graph) || flags != 0) return cudaErrorInvalidValue;
    *executable = live().add(new CUgraphExec_st{graph->nodes});
    return cudaSuccess;
  });
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  return guarded([&] {
    uint64_t id;
    if (!live().has(executable)) return cudaErrorInvalidValue;
    if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    refuseInCapture(id, cudaErrorNotSupported);  // CUDA makes it a child graph
    enqueue(id, [nodes = executable->nodes] {
      for (const auto& node : *nodes) node();
    });
    return cudaSuccess;
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  return guarded([&] {
    if (!live().remove(executable)) return cudaErrorInvalidValue;
    delete executable;
    return cudaSuccess;
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return guarded([&] {
    if (!live().remove(graph)) return cudaErrorInvalidValue;
    delete graph;
    return cudaSuccess;
  });
}
}
