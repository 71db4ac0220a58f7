// The caching allocator of one CUDA device. A block may be handed out again as soon as it is released: all work goes
// through one stream in order, and a block is released only after what uses it has been put there.
#pragma once

#include "core/allocator.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {

class CudaAllocator final : public Allocator {
 public:
  explicit CudaAllocator(Runtime& runtime);
  void* allocate(size_t bytes) override;            // on the stream's thread
  void release(void* data, size_t bytes) override;  // any thread
  void emptyCache() override;                       // on the stream's thread: waits for the device
  void resetPeak() override;
  void setLimit(size_t bytes) override;  // cached blocks beyond it go when the next block is taken from the system
  MemoryFigures figures() const override;

 private:
  size_t blockSize(size_t bytes) const;
  bool exceeds(size_t size) const;
  void freeCached();
  // Null where there is none. Not under the lock where CUDA is called, which may wait for the device.
  void* fromCache(size_t size);
  void* fromDevice(size_t size);

  Runtime& runtime_;
  bool caching_ = true;
  mutable std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> cache_;
  MemoryFigures figures_;
};

}  // namespace flowmap::cuda
