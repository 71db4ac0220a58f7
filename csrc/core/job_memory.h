// Memory of jobs. One thread makes them and another ends them, op after op: the system allocator would take a lock for
// each that comes back to it from another thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <new>

namespace flowmap {

class JobMemory {
 public:
  static void* take(size_t bytes) {
    if (bytes > kBlock) return ::operator new(bytes);
    if (ended_) return ::operator new(kBlock);
    Lists& lists = ofThread();
    if (!lists.spare) lists.spare = returned_.exchange(nullptr, std::memory_order_acquire);
    if (!lists.spare) return ::operator new(kBlock);
    Block* const block = lists.spare;
    lists.spare = block->next;
    return block;
  }

  static void giveBack(void* memory, size_t bytes) noexcept {
    if (bytes > kBlock || ended_) return ::operator delete(memory);
    Lists& lists = ofThread();
    lists.ended = new (memory) Block{lists.ended};
    if (!lists.last) lists.last = lists.ended;
    if (++lists.count < kTogether) return;
    // Others add to it or take all of it, so that the first one seen, if it still is the first, has the rest behind it.
    lists.last->next = returned_.load(std::memory_order_relaxed);
    while (!returned_.compare_exchange_weak(lists.last->next, lists.ended, std::memory_order_release,
                                            std::memory_order_relaxed)) {
    }
    lists.ended = lists.last = nullptr;
    lists.count = 0;
  }

 private:
  static constexpr size_t kBlock = 1024;   // what almost all ops need
  static constexpr size_t kTogether = 16;  // come back at a time

  struct Block {
    Block* next;
  };

  struct Lists {
    Block* spare = nullptr;
    Block* ended = nullptr;
    Block* last = nullptr;  // of `ended`
    size_t count = 0;
    ~Lists() {
      ended_ = true;
      freeAll(spare);
      freeAll(ended);
    }
    static void freeAll(Block* block) {
      while (block) {
        Block* const next = block->next;
        ::operator delete(block);
        block = next;
      }
    }
  };

  static Lists& ofThread() {
    thread_local Lists lists;
    return lists;
  }

  static inline std::atomic<Block*> returned_ = nullptr;
  static inline thread_local bool ended_ = false;  // the thread's lists: jobs are dropped even after that
};

}  // namespace flowmap
