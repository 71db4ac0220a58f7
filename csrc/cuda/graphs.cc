#include "cuda/graphs.h"

namespace flowmap::cuda {
namespace {

class Memory final : public GraphMemory {
 public:
  explicit Memory(CudaAllocator& allocator) : allocator_(allocator) {}
  ~Memory() override { allocator_.retire(&pool_); }
  void open() override { allocator_.open(&pool_); }
  void close() noexcept override { allocator_.close(); }

 private:
  CudaAllocator& allocator_;
  BlockPool pool_;
};

class Segment final : public GraphSegment {
 public:
  Segment(Runtime& runtime, cudaGraphExec_t graph) : runtime_(runtime), graph_(graph) {}
  ~Segment() override {
    cudaGraphExecDestroy(graph_);
    cudaGetLastError();
  }
  void launch() override { check(cudaGraphLaunch(graph_, runtime_.stream()), "cudaGraphLaunch"); }

 private:
  Runtime& runtime_;
  cudaGraphExec_t graph_;
};

}  // namespace

std::unique_ptr<GraphMemory> CudaGraphs::memory() { return std::make_unique<Memory>(allocator_); }

// Relaxed: other threads, and this one where it takes memory, may go on calling what has nothing to do with the stream.
void CudaGraphs::begin() {
  check(cudaStreamBeginCapture(runtime_.stream(), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  runtime_.setCapturing(true);
}

std::unique_ptr<GraphSegment> CudaGraphs::end() {
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(runtime_.stream(), &graph);
  runtime_.setCapturing(false);
  check(ended, "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(made, "cudaGraphInstantiate");
  return std::make_unique<Segment>(runtime_, executable);
}

void CudaGraphs::cancel() noexcept {
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(runtime_.stream(), &graph);
  runtime_.setCapturing(false);
  if (graph) cudaGraphDestroy(graph);
  cudaGetLastError();
}

void CudaGraphs::wait() noexcept {
  cudaStreamSynchronize(runtime_.stream());
  cudaGetLastError();
}

}  // namespace flowmap::cuda
