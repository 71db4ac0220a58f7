// Planned memory: blocks that live together do not overlap, and chains of blocks need no more than what lives at once.
#include "core/memory_plan.h"

#include <cstdint>
#include <cstdio>

#include "expect.h"

using flowmap::Lifetime;
using flowmap::MemoryPlan;
using flowmap::planMemory;

namespace {

constexpr size_t kAlignment = 64;

size_t rounded(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

void valid(const std::vector<Lifetime>& blocks, const MemoryPlan& plan) {
  expect(plan.offsets.size() == blocks.size(), "an offset for each block");
  for (size_t a = 0; a < blocks.size(); ++a) {
    expect(plan.offsets[a] % kAlignment == 0, "aligned");
    expect(plan.offsets[a] + blocks[a].bytes <= plan.bytes, "inside");
    for (size_t b = 0; b < a; ++b) {
      const bool together = blocks[a].first <= blocks[b].last && blocks[b].first <= blocks[a].last;
      const bool apart =
          plan.offsets[a] + blocks[a].bytes <= plan.offsets[b] || plan.offsets[b] + blocks[b].bytes <= plan.offsets[a];
      expect(!together || apart, "no overlap of what lives at the same time");
    }
  }
}

size_t peak(const std::vector<Lifetime>& blocks, size_t ops) {
  size_t most = 0;
  for (size_t at = 0; at < ops; ++at) {
    size_t now = 0;
    for (const Lifetime& block : blocks) {
      if (block.first <= at && at <= block.last) now += rounded(block.bytes);
    }
    most = now > most ? now : most;
  }
  return most;
}

void anyBlocks() {
  uint64_t state = 1;
  const auto below = [&state](size_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<size_t>(state >> 33) % n;
  };
  for (int round = 0; round < 2000; ++round) {
    const size_t ops = 1 + below(40);
    std::vector<Lifetime> blocks(below(60));
    for (Lifetime& block : blocks) {
      block.first = below(ops);
      block.last = block.first + below(ops - block.first);
      block.bytes = below(3) ? below(2000) : 0;
    }
    const MemoryPlan plan = planMemory(blocks, kAlignment);
    valid(blocks, plan);
    expect(plan.bytes >= peak(blocks, ops), "room for what lives at once");
  }
}

// Each op reads what the one before wrote: two blocks are enough, however long the chain.
void chain() {
  std::vector<Lifetime> blocks;
  for (size_t at = 0; at < 100; ++at) blocks.push_back({1000, at, at + 1});
  const MemoryPlan plan = planMemory(blocks, kAlignment);
  valid(blocks, plan);
  expect(plan.bytes == 2 * rounded(1000), "a chain takes two blocks");
}

// Neighbours that end become one gap, which grows where it lies at the end.
void joined() {
  const std::vector<Lifetime> blocks{{64, 0, 0}, {128, 0, 1}, {64, 0, 1}, {256, 2, 2}, {512, 3, 3}};
  const MemoryPlan plan = planMemory(blocks, kAlignment);
  valid(blocks, plan);
  expect(plan.bytes == 512, "gaps are joined");
}

}  // namespace

int main() {
  expect(planMemory({}, kAlignment).bytes == 0, "nothing takes nothing");
  anyBlocks();
  chain();
  joined();
  std::puts("memory_plan: ok");
}
