// Page-locked host memory, which copies run from and to by themselves. Locking pages is slow, so blocks are kept.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/transfer.h"

namespace flowmap::cuda {

class PinnedCache : public std::enable_shared_from_this<PinnedCache> {
 public:
  explicit PinnedCache(int ordinal) : ordinal_(ordinal) {}
  // Any thread. Throws Error(OutOfMemory).
  std::shared_ptr<HostBuffer> take(size_t bytes);
  void release(std::byte* data, size_t size);
  // Frees what is beyond kKept. Not for JavaScript's thread: it may wait for the device.
  void trim();

 private:
  static constexpr size_t kKept = size_t{256} << 20;
  std::byte* fromCache(size_t size);
  std::byte* fromSystem(size_t size);  // null where there is none
  void freeBeyond(size_t kept);
  const int ordinal_;
  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<std::byte*>> cache_;
  size_t cachedBytes_ = 0;
};

}  // namespace flowmap::cuda
