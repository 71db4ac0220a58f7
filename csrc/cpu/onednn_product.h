// Products of matrices by oneDNN's matmul: bfloat16 on the cores' own instructions, and few rows against a large matrix
// without packing all of it. gemm.h has the rest.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/tensor.h"

namespace flowmap::cpu {

// c [batches, m, n] = offset [n] + op(a) op(b), or c += op(a) op(b): op(a) is [m, k], or the transpose of [k, m],
// likewise op(b) [k, n]. `batchesA` and `batchesB` are `batches`, or 1 for one matrix that all share. All matrices are
// dense, none is empty. Sums are float32. Deterministic for a given number of threads.
struct OneDnnProduct {
  bool transposeA = false, transposeB = false;
  int64_t m, n, k;
  DType in;   // of a, b and the offset: float32 or bfloat16
  DType out;  // of c: float32, or that of the operands
  const void *a, *b;
  const void* offset = nullptr;
  void* c;
  bool accumulate = false;  // without an offset, in float32 only
  int64_t batches = 1, batchesA = 1, batchesB = 1;
};

void oneDnnProduct(Device& device, const OneDnnProduct& product);

// Whether this machine multiplies bfloat16 without widening it first (ONEDNN_MAX_CPU_ISA is heeded).
bool multipliesBFloat16();

}  // namespace flowmap::cpu
