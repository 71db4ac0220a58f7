// How many threads CPU kernels use. The device's worker takes the number over when it starts and whenever it changes.
#pragma once

#include <cstdint>
#include <string>

namespace flowmap::cpu {

constexpr int64_t kMaxThreads = 1024;

// Decided at the first call: FLOWMAP_THREADS if it is set, else OMP_NUM_THREADS or the processors, within what this
// process may use.
// Throws Error(Argument) if FLOWMAP_THREADS is no integer in 1 … kMaxThreads.
int64_t threads();

// For the jobs enqueued from now on.
void setThreads(int64_t count);

// On the worker: makes its team that large, or as large as the system has threads for.
void applyThreads(int64_t count);

// The SIMD level the kernels were dispatched to, by Highway's name: "AVX3" is AVX-512.
std::string simdLevel();

}  // namespace flowmap::cpu
