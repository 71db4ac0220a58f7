#include "cpu/gemm.h"

#include <dnnl.h>

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "cpu/gemm_packed.h"
#include "cpu/parallel.h"
#include "cpu/product_blocks.h"

namespace flowmap::cpu {

void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const float* a, const float* b, float beta,
          float* c) {
  if (m == 0 || n == 0) return;
  if (k == 0) {
    if (beta == 0) std::fill_n(c, m * n, 0.0f);
    return;
  }
  const GemmShape shape{transposeA, transposeB, m, n, k};
  if (packingPays(shape)) {
    const GemmSum sum{c, nullptr, beta != 0, 1, {{a, b}}};
    return gemmPacked(shape, &sum, 1);
  }
  const auto block = [&](const ProductBlock& at) {
    const dnnl_status_t status = dnnl_sgemm(transposeA ? 'T' : 'N', transposeB ? 'T' : 'N', at.rows, at.columns, k,
                                            1.0f, a + (transposeA ? at.row : at.row * k), transposeA ? m : k,
                                            b + (transposeB ? at.column * k : at.column), transposeB ? k : n, beta,
                                            c + at.row * n + at.column, n);
    if (status == dnnl_out_of_memory) fail(ErrorCode::OutOfMemory, "gemm", "oneDNN found no memory for its buffers");
    if (status != dnnl_success)
      fail(ErrorCode::Internal, "gemm", "oneDNN failed with status ", static_cast<int>(status));
  };
  forProductBlocks(m, n, k, block);
}

namespace {

constexpr int64_t kRows = 4, kColumns = 16, kDepth = 256;

// b's columns [j, j + width) and rows [p, p + depth) as one panel of kColumns, zero where there are none.
void packPanel(const double* b, bool transpose, int64_t n, int64_t k, int64_t p, int64_t depth, int64_t j,
               double* panel) {
  const int64_t width = std::min(kColumns, n - j);
  for (int64_t q = 0; q < depth; ++q) {
    double* row = panel + q * kColumns;
    for (int64_t i = 0; i < width; ++i) row[i] = transpose ? b[(j + i) * k + p + q] : b[(p + q) * n + j + i];
    std::fill(row + width, row + kColumns, 0.0);
  }
}

}  // namespace

// Double precision is what gradient checks run on: tiles that the compiler vectorises suffice.
void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const double* a, const double* b,
          double beta, double* c) {
  if (m == 0 || n == 0) return;
  if (beta == 0) std::fill_n(c, m * n, 0.0);
  const int64_t panels = (n + kColumns - 1) / kColumns;
  std::vector<double> packed(static_cast<size_t>(panels * kColumns * std::min(k, kDepth)));
  for (int64_t p = 0; p < k; p += kDepth) {
    const int64_t depth = std::min(kDepth, k - p);
    const bool parallel = m * n * depth >= kParallelElements;
    parallelFor(panels, parallel, 1, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) {
        packPanel(b, transposeB, n, k, p, depth, j * kColumns, packed.data() + j * kColumns * depth);
      }
    });
    parallelFor((m + kRows - 1) / kRows, parallel, 1, [&](int64_t begin, int64_t end) {
      double left[kDepth * kRows];
      for (int64_t block = begin; block < end; ++block) {
        const int64_t i = block * kRows, height = std::min(kRows, m - i);
        for (int64_t q = 0; q < depth; ++q) {
          for (int64_t r = 0; r < kRows; ++r) {
            left[q * kRows + r] = r < height ? (transposeA ? a[(p + q) * m + i + r] : a[(i + r) * k + p + q]) : 0.0;
          }
        }
        for (int64_t j = 0; j < panels; ++j) {
          const double* panel = packed.data() + j * kColumns * depth;
          double sum[kRows][kColumns] = {};
          for (int64_t q = 0; q < depth; ++q) {
            for (int64_t r = 0; r < kRows; ++r) {
              const double x = left[q * kRows + r];
              for (int64_t s = 0; s < kColumns; ++s) sum[r][s] += x * panel[q * kColumns + s];
            }
          }
          const int64_t width = std::min(kColumns, n - j * kColumns);
          for (int64_t r = 0; r < height; ++r) {
            double* row = c + (i + r) * n + j * kColumns;
            for (int64_t s = 0; s < width; ++s) row[s] += sum[r][s];
          }
        }
      }
    });
  }
}

}  // namespace flowmap::cpu
