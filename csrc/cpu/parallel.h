// Splits an index range over the team.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "cpu/team.h"

namespace flowmap::cpu {

// Elements below which one thread is about as quick as the team, which takes 1 to 2 µs while it is awake: a sum of two
// rows of float32 takes 4 µs at the first figure; the second is for functions, at some ten times as much an element.
constexpr int64_t kParallelElements = 32768;
constexpr int64_t kParallelTranscendental = 8192;

// body(begin, end) on disjoint ranges that cover [0, n). `parallel` false, or n of 1: one call, on this thread.
// Ranges begin at multiples of `align`, so that threads do not share cache lines; there are at most `perThread` for
// each thread. `body` must not throw.
template <class Body>
void parallelFor(int64_t n, bool parallel, int64_t align, Body body, int64_t perThread = 2) {
  if (n <= 0) return;
  const int64_t threads = teamSize(), blocks = (n + align - 1) / align, parts = std::min(blocks, threads * perThread);
  if (!parallel || parts == 1 || threads == 1) return body(int64_t{0}, n);
  const auto part = [&](int64_t at) {
    body(blocks * at / parts * align, std::min(n, blocks * (at + 1) / parts * align));
  };
  runOnTeam([](void* context, int64_t at) { (*static_cast<const decltype(part)*>(context))(at); },
            const_cast<void*>(static_cast<const void*>(&part)), parts);
}

// body(i) for all i in [0, n), which threads take in turn as they are done with the last. `body` must not throw.
template <class Body>
void parallelTasks(int64_t n, bool parallel, Body body) {
  std::atomic<int64_t> next{0};
  parallelFor(parallel ? teamSize() : 1, parallel, 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < n;) body(i);
  });
}

}  // namespace flowmap::cpu
