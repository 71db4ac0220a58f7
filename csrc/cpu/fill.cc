// Tensors made from nothing.
#include <algorithm>
#include <array>

#include "core/dispatch.h"
#include "cpu/backend.h"
#include "cpu/convert.h"
#include "cpu/parallel.h"
#include "cpu/streaming.h"

namespace flowmap::cpu {

void CpuBackend::fill(const Tensor& out, double value) {
  dispatchBits(out.dtype(), [&]<class T>() {
    T element;
    convertRun(out.dtype(), &element, DType::Float64, &value, 1);
    const bool streamed = isStreamed(out);
    parallelFor(out.numel(), out.numel() >= kParallelElements, 64, [&](int64_t begin, int64_t end) {
      T* const y = out.data<T>();
      if (!streamed) return void(std::fill_n(y + begin, end - begin, element));
      std::array<T, 512> block;
      block.fill(element);
      constexpr int64_t kBlock = std::tuple_size_v<decltype(block)>;
      for (int64_t at = begin; at < end; at += kBlock)
        streamRun(y + at, block.data(), std::min(kBlock, end - at) * static_cast<int64_t>(sizeof(T)));
      finishStreams();
    });
  });
}

void CpuBackend::arange(const Tensor& out, double start, double step) {
  constexpr int64_t kBlock = 512;
  const size_t size = itemSize(out.dtype());
  double values[kBlock];
  for (int64_t at = 0; at < out.numel(); at += kBlock) {
    const int64_t n = std::min(kBlock, out.numel() - at);
    for (int64_t i = 0; i < n; ++i) values[i] = start + static_cast<double>(at + i) * step;
    convertRun(out.dtype(), out.data<char>() + at * size, DType::Float64, values, n);
  }
}

void CpuBackend::eye(const Tensor& out) {
  fill(out, 0);
  const int64_t columns = out.shape()[1];
  const double one = 1;
  dispatchBits(out.dtype(), [&]<class T>() {
    T element;
    convertRun(out.dtype(), &element, DType::Float64, &one, 1);
    for (int64_t i = 0; i < std::min(out.shape()[0], columns); ++i) out.data<T>()[i * columns + i] = element;
  });
}

}  // namespace flowmap::cpu
