#include "cpu/allocator.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

#include "core/error.h"
#include "core/size_class.h"

namespace flowmap::cpu {
namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;

size_t readLimit(const char* path) {
  std::ifstream file(path);
  std::string text;
  if (!(file >> text) || text == "max") return SIZE_MAX;
  const unsigned long long value = std::strtoull(text.c_str(), nullptr, 10);
  return value == 0 ? SIZE_MAX : static_cast<size_t>(value);
}

}  // namespace

size_t availableMemory() {
  const size_t physical = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return std::min(
      {physical, readLimit("/sys/fs/cgroup/memory.max"), readLimit("/sys/fs/cgroup/memory/memory.limit_in_bytes")});
}

CpuAllocator::CpuAllocator() { figures_.limitBytes = availableMemory(); }

CpuAllocator::~CpuAllocator() { freeCached(); }

void CpuAllocator::freeCached() {
  for (auto& [size, blocks] : cache_) {
    for (void* block : blocks) std::free(block);
  }
  cache_.clear();
  figures_.cachedBytes = 0;
}

void* CpuAllocator::allocate(size_t bytes) {
  const size_t size = sizeClass(bytes, kAlignment);
  std::lock_guard lock(mutex_);
  void* data = nullptr;
  if (auto found = cache_.find(size); found != cache_.end() && !found->second.empty()) {
    data = found->second.back();
    found->second.pop_back();
    figures_.cachedBytes -= size;
  } else {
    const auto exceeds = [&] {
      return size > figures_.limitBytes || figures_.bytes + figures_.cachedBytes > figures_.limitBytes - size;
    };
    if (exceeds()) freeCached();
    const size_t alignment = size >= kHugePage ? kHugePage : kAlignment;
    // aligned_alloc wants a multiple of the alignment; only the address space is rounded, untouched pages cost nothing.
    const size_t rounded = (size + alignment - 1) / alignment * alignment;
    if (!exceeds()) data = std::aligned_alloc(alignment, rounded);
    if (!data) {
      freeCached();
      if (!exceeds()) data = std::aligned_alloc(alignment, rounded);
    }
    if (!data) {
      fail(ErrorCode::OutOfMemory, "allocate", "cpu cannot provide ", bytes, " bytes: ", figures_.bytes,
           " in use, peak ", figures_.peakBytes, ", limit ", figures_.limitBytes);
    }
    if (size >= kHugePage) madvise(data, size, MADV_HUGEPAGE);
  }
  figures_.bytes += size;
  figures_.peakBytes = std::max(figures_.peakBytes, figures_.bytes);
  return data;
}

void CpuAllocator::release(void* data, size_t bytes) {
  const size_t size = sizeClass(bytes, kAlignment);
  std::lock_guard lock(mutex_);
  figures_.bytes -= size;
  figures_.cachedBytes += size;
  cache_[size].push_back(data);
}

void CpuAllocator::emptyCache() {
  std::lock_guard lock(mutex_);
  freeCached();
}

void CpuAllocator::resetPeak() {
  std::lock_guard lock(mutex_);
  figures_.peakBytes = figures_.bytes;
}

void CpuAllocator::setLimit(size_t bytes) {
  std::lock_guard lock(mutex_);
  figures_.limitBytes = bytes;
  if (figures_.bytes + figures_.cachedBytes > bytes) freeCached();
}

MemoryFigures CpuAllocator::figures() const {
  std::lock_guard lock(mutex_);
  return figures_;
}

}  // namespace flowmap::cpu
