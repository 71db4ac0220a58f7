#include "cuda/allocator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/size_class.h"

namespace flowmap::cuda {
namespace {

constexpr size_t kAlignment = 256;

}  // namespace

CudaAllocator::CudaAllocator(Runtime& runtime) : runtime_(runtime) {
  size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  figures_.limitBytes = total;
  // For compute-sanitizer and the emulator: blocks of the exact size that are never reused show every stray access.
  const char* cache = std::getenv("FLOWMAP_CUDA_CACHE");
  caching_ = !(cache && std::strcmp(cache, "off") == 0);
}

size_t CudaAllocator::blockSize(size_t bytes) const {
  return caching_ ? sizeClass(bytes, kAlignment) : std::max<size_t>(bytes, 1);
}

bool CudaAllocator::exceeds(size_t size) const {
  std::lock_guard lock(mutex_);
  return size > figures_.limitBytes || figures_.bytes + figures_.cachedBytes > figures_.limitBytes - size;
}

void CudaAllocator::freeNow(const std::vector<void*>& blocks) {
  if (blocks.empty()) return;
  // What was released may still be in use by work in the stream.
  cudaStreamSynchronize(runtime_.stream());
  for (void* block : blocks) cudaFree(block);
  cudaGetLastError();  // of a device that failed; the next op reports it
}

void CudaAllocator::freeCached() {
  std::lock_guard freeing(freeing_);
  std::vector<void*> blocks;
  {
    std::lock_guard lock(mutex_);
    if (open_) return;
    for (const auto& [size, list] : cache_) blocks.insert(blocks.end(), list.begin(), list.end());
    cache_.clear();
    figures_.cachedBytes = 0;
  }
  freeNow(blocks);
}

void* CudaAllocator::fromPool(size_t size) {
  std::lock_guard lock(mutex_);
  if (!open_) return nullptr;
  const auto found = open_->free.find(size);
  if (found == open_->free.end() || found->second.empty()) return nullptr;
  void* data = found->second.back();
  found->second.pop_back();
  owners_[data] = open_;
  return data;
}

void* CudaAllocator::fromCache(size_t size) {
  std::lock_guard lock(mutex_);
  const auto found = cache_.find(size);
  if (found == cache_.end() || found->second.empty()) return nullptr;
  void* data = found->second.back();
  found->second.pop_back();
  figures_.cachedBytes -= size;
  return data;
}

void* CudaAllocator::fromDevice(size_t size) {
  if (exceeds(size)) return nullptr;
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, size);
  if (status == cudaSuccess) return data;
  if (status != cudaErrorMemoryAllocation) check(status, "cudaMalloc");
  cudaGetLastError();
  return nullptr;
}

void* CudaAllocator::allocate(size_t bytes) {
  const size_t size = blockSize(bytes);
  // Without a cache nothing is reused, in a pool neither.
  if (void* data = caching_ ? fromPool(size) : nullptr) return data;
  void* data = fromCache(size);
  if (!data) {
    if (exceeds(size)) freeCached();
    data = fromDevice(size);
  }
  if (!data) {
    freeCached();
    data = fromDevice(size);
  }
  if (!data) {
    const MemoryFigures now = figures();
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    fail(ErrorCode::OutOfMemory, "allocate", runtime_.name(), " cannot provide ", bytes, " bytes: ", now.bytes,
         " in use, peak ", now.peakBytes, ", limit ", now.limitBytes, "; the device has ", free, " of ", total,
         " free");
  }
  std::lock_guard lock(mutex_);
  figures_.bytes += size;
  figures_.peakBytes = std::max(figures_.peakBytes, figures_.bytes);
  if (open_) owners_[data] = open_;
  return data;
}

void CudaAllocator::release(void* data, size_t bytes) {
  const size_t size = blockSize(bytes);
  std::unique_lock<std::mutex> freeing(freeing_, std::defer_lock);
  if (!caching_) freeing.lock();
  {
    std::lock_guard lock(mutex_);
    if (const auto owner = owners_.find(data); owner != owners_.end()) {
      BlockPool* const pool = owner->second;
      owners_.erase(owner);
      pool->free[size].push_back(data);
      return;
    }
    figures_.bytes -= size;
    if (caching_) {
      figures_.cachedBytes += size;
      cache_[size].push_back(data);
      return;
    }
    if (open_) return deferred_.push_back(data);
  }
  freeNow({data});
}

void CudaAllocator::open(BlockPool* pool) {
  std::lock_guard freeing(freeing_);
  std::lock_guard lock(mutex_);
  open_ = pool;
}

void CudaAllocator::close() noexcept {
  std::vector<void*> blocks;
  std::lock_guard freeing(freeing_);
  {
    std::lock_guard lock(mutex_);
    open_ = nullptr;
    blocks.swap(deferred_);
  }
  freeNow(blocks);
}

void CudaAllocator::retire(BlockPool* pool) noexcept {
  std::vector<void*> blocks;
  std::lock_guard freeing(freeing_);
  {
    std::lock_guard lock(mutex_);
    std::erase_if(owners_, [pool](const auto& owner) { return owner.second == pool; });
    for (const auto& [size, list] : pool->free) {
      figures_.bytes -= size * list.size();
      if (caching_) {
        figures_.cachedBytes += size * list.size();
        std::vector<void*>& cached = cache_[size];
        cached.insert(cached.end(), list.begin(), list.end());
      } else if (open_) {
        deferred_.insert(deferred_.end(), list.begin(), list.end());
      } else {
        blocks.insert(blocks.end(), list.begin(), list.end());
      }
    }
  }
  freeNow(blocks);
}

void CudaAllocator::emptyCache() { freeCached(); }

void CudaAllocator::resetPeak() {
  std::lock_guard lock(mutex_);
  figures_.peakBytes = figures_.bytes;
}

void CudaAllocator::setLimit(size_t bytes) {
  std::lock_guard lock(mutex_);
  figures_.limitBytes = bytes;
}

MemoryFigures CudaAllocator::figures() const {
  std::lock_guard lock(mutex_);
  return figures_;
}

}  // namespace flowmap::cuda
