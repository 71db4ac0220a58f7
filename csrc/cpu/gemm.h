// Row-major matrix products: float32 by panels of our own or through oneDNN, float64 by our own tiles, 16-bit floats
// through float32.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace flowmap::cpu {

// c [m, n] = op(a) op(b) + beta c, beta being 0 or 1, op(a) being a [m, k], or the transpose of a [k, m]; likewise
// op(b) [k, n]. All matrices are dense. k of 0 gives beta c. Deterministic for a given number of threads.
void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const float* a, const float* b, float beta,
          float* c);
void gemm(bool transposeA, bool transposeB, int64_t m, int64_t n, int64_t k, const double* a, const double* b,
          double beta, double* c);

}  // namespace flowmap::cpu
