// What the stand-in's handles point to.
#pragma once

#include <cstdint>

#include "cuda/cublas_api.h"

namespace flowmap::cuda::cublaslt {

struct Context {
  static constexpr uint64_t kAlive = 0x636f6e74657874;
  uint64_t alive = kAlive;
};

struct LayoutOpaque {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t leading;
  int32_t batches = 1;
  int64_t stride = 0;
};

struct DescOpaque {
  ComputeType compute;
  cudaDataType scale;
  int32_t transA = kOpN, transB = kOpN;
  uint32_t epilogue = kEpilogueDefault;
  const void* bias = nullptr;
};

struct PreferenceOpaque {
  uint64_t maxWorkspaceBytes = 0;
  uint32_t reductionSchemeMask = 7;
  uint32_t alignments[4] = {256, 256, 256, 256};  // A, B, C, D
};

}  // namespace flowmap::cuda::cublaslt

namespace flowmap::simt {

using namespace flowmap::cuda::cublaslt;

/** A product as it is enqueued: everything by value. */
struct Product {
  DescOpaque desc;
  LayoutOpaque a, b, c, d;
  const void *aData, *bData, *cData;
  void *dData, *workspace;
  size_t workspaceBytes;
  double alpha, beta;
};

/** The sizes of op(A) op(B) and the checks that need no pointers. */
struct Problem {
  uint64_t m = 0, n = 0, k = 0;
  Status status = kSuccess;
};
Problem examine(const DescOpaque&, const LayoutOpaque& a, const LayoutOpaque& b, const LayoutOpaque& c,
                const LayoutOpaque& d);

/** Enqueues it on the stream. */
Status enqueueProduct(const Product&, cudaStream_t);

size_t bytesOf(cudaDataType);

}  // namespace flowmap::simt
