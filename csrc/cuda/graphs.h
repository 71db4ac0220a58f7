// Recordings as CUDA graphs: what goes to the stream between `begin` and `end` becomes one graph.
#pragma once

#include "core/graphs.h"
#include "cuda/allocator.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {

class CudaGraphs final : public Graphs {
 public:
  CudaGraphs(Runtime& runtime, CudaAllocator& allocator) : runtime_(runtime), allocator_(allocator) {}
  std::unique_ptr<GraphMemory> memory() override;
  void begin() override;
  std::unique_ptr<GraphSegment> end() override;
  void cancel() noexcept override;
  void wait() noexcept override;

 private:
  Runtime& runtime_;
  CudaAllocator& allocator_;
};

}  // namespace flowmap::cuda
