// Compiled once per SIMD level: a store as wide as a line fills it at once.
#include "cpu/streaming.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/streaming.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void StreamRun(uint8_t* HWY_RESTRICT to, const uint8_t* HWY_RESTRICT from, int64_t bytes) {
  constexpr int64_t kLine = 64;
  const hn::ScalableTag<uint8_t> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t into = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kLine);
  const int64_t head = std::min(bytes, into ? kLine - into : 0);
  std::memcpy(to, from, static_cast<size_t>(head));
  int64_t i = head;
  for (; i + kLine <= bytes; i += kLine) {
    for (int64_t j = 0; j < kLine; j += lanes) hn::Stream(hn::LoadU(d, from + i + j), d, to + i + j);
  }
  std::memcpy(to + i, from + i, static_cast<size_t>(bytes - i));
}

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(StreamRun);

void streamRun(void* to, const void* from, int64_t bytes) {
  HWY_DYNAMIC_DISPATCH(StreamRun)(static_cast<uint8_t*>(to), static_cast<const uint8_t*>(from), bytes);
}
void finishStreams() { hwy::FlushStream(); }

}  // namespace flowmap::cpu
#endif
