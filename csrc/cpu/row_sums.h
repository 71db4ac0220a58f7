// Sums over the rows of a matrix: the gradients of what every row had added to it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "core/dispatch.h"
#include "cpu/convert.h"
#include "cpu/parallel.h"

namespace flowmap::cpu {

// out [columns]. Rows are summed in chunks that do not depend on the number of threads; chunks are added in order.
template <class T>
void sumRows(Compute<T>* out, const T* x, int64_t rows, int64_t columns) {
  using C = Compute<T>;
  constexpr int64_t kChunk = 64;
  const int64_t chunks = (rows + kChunk - 1) / kChunk;
  std::unique_ptr<C[]> partial(new C[static_cast<size_t>(std::max<int64_t>(chunks, 1) * columns)]());
  parallelFor(chunks, rows * columns >= kParallelElements, 1, [&](int64_t begin, int64_t end) {
    constexpr int64_t kRun = 512;
    C wide[kRun];
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      C* sum = partial.get() + chunk * columns;
      for (int64_t r = chunk * kChunk; r < std::min(rows, (chunk + 1) * kChunk); ++r) {
        const T* row = x + r * columns;
        if constexpr (std::is_same_v<T, C>) {
          for (int64_t c = 0; c < columns; ++c) sum[c] += row[c];
        } else {
          for (int64_t from = 0; from < columns; from += kRun) {
            const int64_t count = std::min(kRun, columns - from);
            toFloatRun(wide, row + from, count);
            for (int64_t c = 0; c < count; ++c) sum[from + c] += wide[c];
          }
        }
      }
    }
  });
  // Pairwise over chunks: the error grows with the logarithm of their number.
  for (int64_t stride = 1; stride < chunks; stride *= 2) {
    for (int64_t chunk = 0; chunk + stride < chunks; chunk += 2 * stride) {
      C* into = partial.get() + chunk * columns;
      const C* from = partial.get() + (chunk + stride) * columns;
      for (int64_t c = 0; c < columns; ++c) into[c] += from[c];
    }
  }
  std::copy_n(partial.get(), columns, out);
}

}  // namespace flowmap::cpu
