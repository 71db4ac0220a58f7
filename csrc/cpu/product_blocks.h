// Cuts a matrix product into blocks of the result, one or a few for every thread of the team: in both directions, as
// each reads all rows of A and columns of B that it needs for itself.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "cpu/kept_error.h"
#include "cpu/parallel.h"

namespace flowmap::cpu {

// What oneDNN's kernels take at a time.
constexpr int64_t kBlockRows = 8, kBlockColumns = 16;

struct ProductBlock {
  int64_t row, rows, column, columns;
};

constexpr int64_t kLeastProduct = 1 << 18;  // multiplications worth the team

struct ProductGrid {
  int64_t rows, columns;  // of blocks
};

// Of at most `blocks`, all of the same size but for their last rows and columns.
inline ProductGrid productGrid(int64_t m, int64_t n, int64_t blocks) {
  const auto blockOf = [](int64_t size, int64_t count, int64_t step) {
    return ((size + step - 1) / step + count - 1) / count * step;
  };
  ProductGrid best{1, 1};
  int64_t leastWork = m * n, leastRead = m + n;
  for (int64_t rows = 1; rows <= blocks; ++rows) {
    const int64_t columns = blocks / rows, height = blockOf(m, rows, kBlockRows),
                  width = blockOf(n, columns, kBlockColumns);
    const int64_t work = height * width, read = height + width;
    if (work < leastWork || (work == leastWork && read < leastRead)) {
      best = {rows, columns}, leastWork = work, leastRead = read;
    }
  }
  return best;
}

// oneDNN's own threads for what is multiplied meanwhile. They and the team's look out for work at the same time, so
// this is for products that take long.
class OneDnnThreads {
 public:
  explicit OneDnnThreads(int64_t count) { omp_set_num_threads(static_cast<int>(count)); }
  ~OneDnnThreads() { omp_set_num_threads(1); }
  OneDnnThreads(const OneDnnThreads&) = delete;
  OneDnnThreads& operator=(const OneDnnThreads&) = delete;
};

// Few rows against a large matrix, which is read once: oneDNN is up to twice as fast where it knows of all threads.
inline bool readsOnce(int64_t m, int64_t n, int64_t k) { return m < 192 && n * k >= 1 << 18; }

// block(ProductBlock) for all of the result [m, n] of a product over k, which may throw.
template <class Block>
void forProductBlocks(int64_t m, int64_t n, int64_t k, Block block) {
  const int64_t threads = teamSize();
  if (threads == 1 || m * n * k < kLeastProduct) return block(ProductBlock{0, m, 0, n});
  if (readsOnce(m, n, k)) {
    const OneDnnThreads all(threads);
    return block(ProductBlock{0, m, 0, n});
  }
  // Large products in more blocks than threads, for processors that are not equally fast.
  constexpr int64_t kLeastBlock = 1 << 22;
  const int64_t perThread = std::clamp<int64_t>(m * n * k / (threads * kLeastBlock), 1, kMostPartsPerThread);
  const ProductGrid grid = productGrid(m, n, threads * perThread);
  const auto cut = [](int64_t size, int64_t count, int64_t at, int64_t step) {
    return std::min(size, (size + step - 1) / step * at / count * step);
  };
  KeptError error;
  parallelFor(
      grid.rows * grid.columns, true, 1,
      [&](int64_t begin, int64_t end) {
        error.keep([&] {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t r = i / grid.columns, c = i % grid.columns;
            const int64_t row = cut(m, grid.rows, r, kBlockRows), column = cut(n, grid.columns, c, kBlockColumns);
            const ProductBlock at{row, cut(m, grid.rows, r + 1, kBlockRows) - row, column,
                                  cut(n, grid.columns, c + 1, kBlockColumns) - column};
            if (at.rows > 0 && at.columns > 0) block(at);
          }
        });
      },
      kMostPartsPerThread);
  error.rethrow();
}

}  // namespace flowmap::cpu
