// The CPU's caching allocator: 64-byte aligned blocks, huge pages for the large ones.
#pragma once

#include "core/allocator.h"

namespace flowmap::cpu {

class CpuAllocator final : public Allocator {
 public:
  CpuAllocator();
  ~CpuAllocator() override;
  void* allocate(size_t bytes) override;
  void release(void* data, size_t bytes) override;
  void emptyCache() override;
  void resetPeak() override;
  void setLimit(size_t bytes) override;
  MemoryFigures figures() const override;

 private:
  void freeCached();  // mutex held

  mutable std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> cache_;
  MemoryFigures figures_;
};

// What the process may use: the smaller of physical memory and the control group's limit.
size_t availableMemory();

}  // namespace flowmap::cpu
