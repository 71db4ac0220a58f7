// Splits an index range over the OpenMP team. Always the whole team or none: libgomp ends threads when a region is
// smaller than the one before, and starting them again costs more than most kernels.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace flowmap::cpu {

// Elements below which one thread is quicker than waking the team, which takes 10 to 40 µs: a sum of two rows of
// float32 takes 20 µs at the first figure, an exponential 26 µs at the second.
constexpr int64_t kParallelElements = 131072;
constexpr int64_t kParallelTranscendental = 65536;

// body(begin, end) on disjoint ranges that cover [0, n). `parallel` false, or n of 1: one call, no region.
// Ranges begin at multiples of `align`, so that threads do not share cache lines. `body` must not throw.
template <class Body>
void parallelFor(int64_t n, bool parallel, int64_t align, Body body) {
  if (n <= 0) return;
  if (!parallel || n <= align || omp_get_max_threads() == 1) return body(int64_t{0}, n);
#pragma omp parallel
  {
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const int64_t blocks = (n + align - 1) / align;
    const int64_t begin = blocks * thread / threads * align, end = std::min(n, blocks * (thread + 1) / threads * align);
    if (begin < end) body(begin, end);
  }
}

}  // namespace flowmap::cpu
