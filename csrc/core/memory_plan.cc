#include "core/memory_plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

namespace flowmap {
namespace {

// Gaps below the end of what has been given out so far, by place and by size.
class Gaps {
 public:
  size_t take(size_t bytes) {
    const auto found = bySize_.lower_bound({bytes, 0});
    if (found == bySize_.end()) return grow(bytes);
    const auto [size, offset] = *found;
    erase(offset, size);
    if (size > bytes) insert(offset + bytes, size - bytes);
    return offset;
  }

  void give(size_t offset, size_t bytes) {
    const auto next = byPlace_.lower_bound(offset);
    if (next != byPlace_.begin()) {
      const auto [before, size] = *std::prev(next);
      if (before + size == offset) {
        erase(before, size);
        offset = before;
        bytes += size;
      }
    }
    if (const auto after = byPlace_.find(offset + bytes); after != byPlace_.end()) {
      const size_t size = after->second;
      erase(after->first, size);
      bytes += size;
    }
    insert(offset, bytes);
  }

  size_t end() const { return end_; }

 private:
  // Where the last gap reaches the end, only what it lacks is added.
  size_t grow(size_t bytes) {
    size_t offset = end_;
    if (!byPlace_.empty()) {
      const auto [last, size] = *byPlace_.rbegin();
      if (last + size == end_) {
        offset = last;
        erase(last, size);
      }
    }
    end_ = offset + bytes;
    return offset;
  }

  void insert(size_t offset, size_t bytes) {
    byPlace_.emplace(offset, bytes);
    bySize_.emplace(bytes, offset);
  }

  void erase(size_t offset, size_t bytes) {
    byPlace_.erase(offset);
    bySize_.erase({bytes, offset});
  }

  std::map<size_t, size_t> byPlace_;
  std::set<std::pair<size_t, size_t>> bySize_;
  size_t end_ = 0;
};

}  // namespace

MemoryPlan planMemory(const std::vector<Lifetime>& blocks, size_t alignment) {
  std::vector<size_t> starting(blocks.size()), ending(blocks.size());
  std::iota(starting.begin(), starting.end(), 0);
  ending = starting;
  std::stable_sort(starting.begin(), starting.end(),
                   [&](size_t a, size_t b) { return blocks[a].first < blocks[b].first; });
  std::stable_sort(ending.begin(), ending.end(), [&](size_t a, size_t b) { return blocks[a].last < blocks[b].last; });
  const auto rounded = [&](size_t block) { return (blocks[block].bytes + alignment - 1) / alignment * alignment; };

  MemoryPlan plan;
  plan.offsets.resize(blocks.size());
  Gaps gaps;
  auto ended = ending.begin();
  for (const size_t block : starting) {
    for (; ended != ending.end() && blocks[*ended].last < blocks[block].first; ++ended) {
      if (rounded(*ended)) gaps.give(plan.offsets[*ended], rounded(*ended));
    }
    if (rounded(block)) plan.offsets[block] = gaps.take(rounded(block));
  }
  plan.bytes = gaps.end();
  return plan;
}

}  // namespace flowmap
