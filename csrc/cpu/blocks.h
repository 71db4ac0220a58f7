// Feeds run kernels from broadcast operands: cuts the output into runs in which every operand has step 1 or 0, widens
// 16-bit floats through small buffers, and gathers rows too short to be worth a call into longer runs.
#pragma once

#include <tuple>
#include <utility>

#include "core/broadcast.h"
#include "core/dispatch.h"
#include "cpu/convert.h"
#include "cpu/parallel.h"
#include "cpu/streaming.h"

namespace flowmap::cpu {

constexpr int64_t kBlock = 512;    // elements; three float buffers of it stay in the first-level cache
constexpr int64_t kShortRow = 32;  // rows shorter than this are gathered

template <class T>
constexpr bool kNarrow = sizeof(T) == 2 && !std::is_same_v<T, Compute<T>>;

// What a run kernel sees of an operand.
template <class T>
struct Run {
  const Compute<T>* data;
  int step;
};

template <class T>
class Operand {
 public:
  explicit Operand(const T* data) : data_(data) {}

  void gather(int64_t to, int64_t n, int64_t offset, int64_t step) {
    for (int64_t i = 0; i < n; ++i) gathered_[to + i] = data_[offset + i * step];
  }
  Run<T> gathered(int64_t n) { return widen(gathered_, 1, n); }
  Run<T> direct(int64_t offset, int step, int64_t n) { return widen(data_ + offset, step, n); }

 private:
  Run<T> widen(const T* data, int step, int64_t n) {
    if constexpr (kNarrow<T>) {
      toFloatRun(wide_, data, step ? n : 1);
      return {wide_, step};
    } else {
      return {data, step};
    }
  }

  const T* data_;
  T gathered_[kBlock];
  Compute<T> wide_[kNarrow<T> ? kBlock : 1];
};

// run(y, n, Run<Ts>...) writes n results, on several threads from `parallelFrom` elements on. Operands that repeat
// throughout (scalars) have stride 0 in the plan.
template <class Out, class... Ts, class Kernel>
void mapBlocks(const BroadcastPlan<sizeof...(Ts)>& plan, Out* y, int64_t numel, int64_t parallelFrom, Kernel run,
               const Ts*... data) {
  constexpr bool kAnyNarrow = kNarrow<Out> || (kNarrow<Ts> || ...);
  const bool streamed = numel * static_cast<int64_t>(sizeof(Out)) >= kStreamedBytes;
  parallelFor(numel, numel >= parallelFrom, 64, [&](int64_t begin, int64_t end) {
    std::tuple<Operand<Ts>...> operands{Operand<Ts>(data)...};
    Compute<Out> wide[kNarrow<Out> ? kBlock : 1];
    Out leaving[kBlock];
    const auto write = [&](int64_t at, int64_t n, const auto&... runs) {
      Out* const to = streamed ? leaving : y + at;
      if constexpr (kNarrow<Out>) {
        run(wide, n, runs...);
        fromFloatRun(to, wide, n);
      } else {
        run(to, n, runs...);
      }
      if (streamed) streamRun(y + at, leaving, n * static_cast<int64_t>(sizeof(Out)));
    };
    [&]<size_t... I>(std::index_sequence<I...>) {
      if (plan.rank == 1 || plan.inner() >= kShortRow) {
        plan.forEachRun(begin, end, [&](int64_t at, int64_t n, const auto& offset) {
          const int64_t piece = kAnyNarrow || streamed ? kBlock : n;
          for (int64_t i = 0; i < n; i += piece) {
            const int64_t m = std::min(piece, n - i);
            write(at + i, m, std::get<I>(operands).direct(offset[I] + i * plan.step(I), plan.step(I), m)...);
          }
        });
      } else {
        for (int64_t at = begin; at < end; at += kBlock) {
          const int64_t n = std::min(kBlock, end - at);
          plan.forEachRun(at, at + n, [&](int64_t from, int64_t m, const auto& offset) {
            (std::get<I>(operands).gather(from - at, m, offset[I], plan.step(I)), ...);
          });
          write(at, n, std::get<I>(operands).gathered(n)...);
        }
      }
    }
    (std::index_sequence_for<Ts...>{});
    if (streamed) finishStreams();
  });
}

}  // namespace flowmap::cpu
