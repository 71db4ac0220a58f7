// The caching allocator of one CUDA device. A block may be handed out again as soon as it is released: all work goes
// through one stream in order, and a block is released only after what uses it has been put there.
#pragma once

#include "core/allocator.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {

// Blocks that belong to one recording. They count as handed out for as long as they do.
struct BlockPool {
  std::unordered_map<size_t, std::vector<void*>> free;  // by size
};

class CudaAllocator final : public Allocator {
 public:
  explicit CudaAllocator(Runtime& runtime);
  void* allocate(size_t bytes) override;            // on the stream's thread
  void release(void* data, size_t bytes) override;  // any thread
  void emptyCache() override;                       // on the stream's thread: waits for the device
  void resetPeak() override;
  void setLimit(size_t bytes) override;  // cached blocks beyond it go when the next block is taken from the system
  MemoryFigures figures() const override;

  // On the stream's thread: from `open` to `close` blocks come from the pool or join it, and nothing waits for the
  // device or is given back to it. A pool ends with `retire`: its blocks go to the cache, those in use once released.
  void open(BlockPool* pool);
  void close() noexcept;
  void retire(BlockPool* pool) noexcept;

 private:
  size_t blockSize(size_t bytes) const;
  bool exceeds(size_t size) const;
  void freeCached();
  void freeNow(const std::vector<void*>& blocks);  // waits for the device
  void* fromPool(size_t size);
  // Null where there is none. Not under the lock where CUDA is called, which may wait for the device.
  void* fromCache(size_t size);
  void* fromDevice(size_t size);

  Runtime& runtime_;
  bool caching_ = true;
  mutable std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> cache_;
  MemoryFigures figures_;
  BlockPool* open_ = nullptr;
  std::unordered_map<void*, BlockPool*> owners_;  // of blocks in use
  std::vector<void*> deferred_;                   // without a cache: released while a pool was open
  std::mutex freeing_;                            // held while blocks are given back, and to open a pool
};

}  // namespace flowmap::cuda
