// What the race detector remembers about memory: by page, in cells of 4 bytes, or of 2 or 1 where accesses are that
// fine, the last write and the reads since that no later read follows.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "program.h"

namespace flowmap::simt {

/**
 * A moment in the life of an agent: a thread of the cluster (block by block) or its engine of asynchronous copies
 * (threads + the thread's agent). 15 bits: 16 blocks of 1024 threads.
 */
class Epoch {
 public:
  static constexpr uint32_t kAgentBits = 15, kLatest = (1u << (32 - kAgentBits)) - 1;
  Epoch() = default;
  Epoch(uint32_t agent, uint32_t clock) : bits_(clock << kAgentBits | agent) {}
  uint32_t agent() const { return bits_ & ((1u << kAgentBits) - 1); }
  uint32_t clock() const { return bits_ >> kAgentBits; }  // 0: never
  bool operator==(const Epoch&) const = default;

 private:
  uint32_t bits_ = 0;
};

/** Where in the kernel's code: the index of an instruction, plus one; 0 is nowhere. */
using Place = uint32_t;

struct Read {
  Epoch epoch;
  Place at = 0;
};

struct Cell {
  Epoch write;
  uint32_t writeAt : 30 = 0;
  uint32_t atomic : 1 = 0;       // the last write was
  uint32_t plainWrites : 1 = 0;  // there was one ever
  Read read;                     // the latest; the others that may still matter are in `readers`
  std::unique_ptr<std::vector<Read>> readers;
};

template <class C>
struct Page {
  static constexpr uint32_t kBytes = 256, kCoarse = 2;
  uint32_t shift = kCoarse;  // of the cells' size
  std::vector<C> cells = std::vector<C>(kBytes >> kCoarse);

  /** Splits the cells so that one has at most 2^to bytes; `copy` makes a half that knows what the whole knew. */
  template <class Copy>
  void refine(uint32_t to, Copy&& copy) {
    if (shift <= to) return;
    std::vector<C> finer(kBytes >> to);
    for (size_t i = 0; i < finer.size(); ++i) finer[i] = copy(cells[i >> (shift - to)]);
    cells = std::move(finer);
    shift = to;
  }
};

/** Pages by address. A page stays where it is: the latest ones are found without a look into the table. */
template <class C>
class Shadow {
 public:
  using PageOf = Page<C>;
  PageOf& at(uint64_t address) {
    const uint64_t index = address / PageOf::kBytes;
    Recent& recent = recent_[index % kRecent];
    if (recent.index != index) recent = {index, &pages_[index]};
    return *recent.page;
  }
  void clear() {
    pages_.clear();
    recent_.fill({});
  }
  template <class Function>
  void each(Function&& function) {
    for (auto& [index, page] : pages_) function(index * PageOf::kBytes, page);
  }

 private:
  static constexpr size_t kRecent = 64;
  struct Recent {
    uint64_t index = ~0ull;
    PageOf* page = nullptr;
  };
  std::unordered_map<uint64_t, PageOf> pages_;
  std::array<Recent, kRecent> recent_{};
};

}  // namespace flowmap::simt
