// Results larger than the caches are written around them: a plain store first reads the line it is about to overwrite.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace flowmap::cpu {

// Of one call's results: fewer wait in the caches for whatever reads them next.
constexpr int64_t kStreamedBytes = 32 << 20;

template <class... Tensors>
bool isStreamed(const Tensors&... results) {
  return ((results ? static_cast<int64_t>(results.bytes()) : 0) + ...) >= kStreamedBytes;
}

// memcpy past the caches. Others see it after the thread's finishStreams.
void streamRun(void* to, const void* from, int64_t bytes);
void finishStreams();

}  // namespace flowmap::cpu
