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

void CudaAllocator::freeCached() {
  std::unordered_map<size_t, std::vector<void*>> blocks;
  {
    std::lock_guard lock(mutex_);
    if (cache_.empty()) return;
    blocks.swap(cache_);
    figures_.cachedBytes = 0;
  }
  // What was released may still be in use by work in the stream.
  cudaStreamSynchronize(runtime_.stream());
  for (auto& [size, list] : blocks) {
    for (void* block : list) cudaFree(block);
  }
  cudaGetLastError();  // of a device that failed; the next op reports it
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
  return data;
}

void CudaAllocator::release(void* data, size_t bytes) {
  const size_t size = blockSize(bytes);
  if (!caching_) {
    cudaStreamSynchronize(runtime_.stream());
    cudaFree(data);
    cudaGetLastError();
  }
  std::lock_guard lock(mutex_);
  figures_.bytes -= size;
  if (!caching_) return;
  figures_.cachedBytes += size;
  cache_[size].push_back(data);
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
