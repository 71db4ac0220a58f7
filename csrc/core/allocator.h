// Where a device's memory comes from. Blocks are cached by size class, because touching fresh pages is several times
// slower than reusing touched ones; the limit keeps a request the machine cannot serve from reaching the kernel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <unordered_map>
#include <vector>

namespace flowmap {

struct MemoryFigures {
  size_t bytes = 0;        // handed out now
  size_t peakBytes = 0;    // highest `bytes` since the last resetPeak
  size_t cachedBytes = 0;  // held for reuse
  size_t limitBytes = 0;   // handed out + cached never exceeds this
};

class Allocator {
 public:
  virtual ~Allocator() = default;
  // Throws Error(OutOfMemory) with the figures, after giving the cache back and trying again.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data, size_t bytes) = 0;
  virtual void emptyCache() = 0;
  virtual void resetPeak() = 0;
  virtual void setLimit(size_t bytes) = 0;
  virtual MemoryFigures figures() const = 0;
};

}  // namespace flowmap
