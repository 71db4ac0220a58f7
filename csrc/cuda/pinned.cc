#include "cuda/pinned.h"

#include "core/size_class.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {
namespace {

constexpr size_t kAlignment = 512;

class PinnedBuffer final : public HostBuffer {
 public:
  PinnedBuffer(std::shared_ptr<PinnedCache> cache, std::byte* data, size_t bytes, size_t size)
      : HostBuffer(data, bytes), cache_(std::move(cache)), size_(size) {}
  ~PinnedBuffer() override { cache_->release(data(), size_); }

 private:
  std::shared_ptr<PinnedCache> cache_;
  size_t size_;
};

}  // namespace

std::byte* PinnedCache::fromCache(size_t size) {
  std::lock_guard lock(mutex_);
  const auto found = cache_.find(size);
  if (found == cache_.end() || found->second.empty()) return nullptr;
  std::byte* data = found->second.back();
  found->second.pop_back();
  cachedBytes_ -= size;
  return data;
}

std::byte* PinnedCache::fromSystem(size_t size) {
  // JavaScript's thread, or the CPU's, may never have chosen a device; the first one is not to be opened for it.
  check(cudaSetDevice(ordinal_), "cudaSetDevice");
  void* fresh = nullptr;
  // Portable: copies between two devices share a buffer.
  const cudaError_t status = cudaHostAlloc(&fresh, size, cudaHostAllocPortable);
  if (status != cudaErrorMemoryAllocation) check(status, "cudaHostAlloc");
  cudaGetLastError();
  return static_cast<std::byte*>(fresh);
}

std::shared_ptr<HostBuffer> PinnedCache::take(size_t bytes) {
  const size_t size = sizeClass(bytes, kAlignment);
  std::byte* data = fromCache(size);
  if (!data) data = fromSystem(size);
  if (!data) {
    freeBeyond(0);
    data = fromSystem(size);
  }
  if (!data) fail(ErrorCode::OutOfMemory, "buffer", "no page-locked host memory for a copy of ", bytes, " bytes");
  return std::make_shared<PinnedBuffer>(shared_from_this(), data, bytes, size);
}

void PinnedCache::release(std::byte* data, size_t size) {
  std::lock_guard lock(mutex_);
  cache_[size].push_back(data);
  cachedBytes_ += size;
}

void PinnedCache::trim() { freeBeyond(kKept); }

void PinnedCache::freeBeyond(size_t kept) {
  std::vector<std::byte*> surplus;
  {
    std::lock_guard lock(mutex_);
    for (auto& [size, blocks] : cache_) {
      while (cachedBytes_ > kept && !blocks.empty()) {
        surplus.push_back(blocks.back());
        blocks.pop_back();
        cachedBytes_ -= size;
      }
    }
  }
  for (std::byte* data : surplus) cudaFreeHost(data);
}

}  // namespace flowmap::cuda
