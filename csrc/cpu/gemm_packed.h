// Sums of float32 products that are large enough to pack B, in panels that all threads read; others are oneDNN's
// (gemm.h).
#pragma once

#include <cstdint>

namespace flowmap::cpu {

// op(a) op(b), op(a) being a [m, k], or the transpose of a [k, m]; likewise op(b) [k, n]. All matrices are dense.
struct GemmShape {
  bool transposeA, transposeB;
  int64_t m, n, k;
};

struct GemmTerm {
  const float *a, *b;
};

// c [m, n] = a sum of products + `offset` [n] to every row; without one + 0, or + c.
struct GemmSum {
  static constexpr int64_t kMostTerms = 2;
  float* c;
  const float* offset = nullptr;
  bool accumulate = false;
  int64_t terms = 0;
  GemmTerm term[kMostTerms] = {};
};

// Whether it is faster than oneDNN's sgemm, by measurement.
bool packingPays(const GemmShape& shape);

// Sums of one shape, with a product each at least; a b that is in several of them is packed once. An element's bits
// depend neither on the threads nor on other rows of A or columns of B.
void gemmPacked(const GemmShape& shape, const GemmSum* sums, int64_t count);

}  // namespace flowmap::cpu
