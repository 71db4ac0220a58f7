// The part of cuBLASLt that products use, declared here: minimal toolkits have no cublasLt.h, and the library is found
// at run time. Names and values are the documentation's: https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api
#pragma once

#include <cuda_runtime.h>
#include <library_types.h>

#include <cstddef>
#include <cstdint>

namespace flowmap::cuda::cublaslt {

enum Status : int {
  kSuccess = 0,
  kNotInitialized = 1,
  kAllocFailed = 3,
  kInvalidValue = 7,
  kArchMismatch = 8,
  kMappingError = 11,
  kExecutionFailed = 13,
  kInternalError = 14,
  kNotSupported = 15,
  kLicenseError = 16,
};

enum Operation : int32_t { kOpN = 0, kOpT = 1 };

enum ComputeType : int { kCompute32F = 68, kCompute64F = 70, kCompute32FFastTf32 = 77 };

enum LayoutAttribute : int { kLayoutBatchCount = 5, kLayoutBatchStride = 6 };  // int32_t, int64_t (elements)

enum DescAttribute : int {
  kDescTransA = 3,       // int32_t
  kDescTransB = 4,       // int32_t
  kDescEpilogue = 7,     // uint32_t
  kDescBiasPointer = 8,  // const void*
};

enum Epilogue : uint32_t { kEpilogueDefault = 1, kEpilogueBias = 4 };

enum PreferenceAttribute : int {
  kPrefMaxWorkspaceBytes = 1,    // uint64_t
  kPrefReductionSchemeMask = 3,  // uint32_t
  kPrefMinAlignmentABytes = 5,   // uint32_t, and the three that follow
  kPrefMinAlignmentBBytes = 6,
  kPrefMinAlignmentCBytes = 7,
  kPrefMinAlignmentDBytes = 8,
};

enum ReductionScheme : uint32_t { kReductionNone = 0, kReductionComputeType = 2 };

struct Algorithm {
  uint64_t data[8];
};

struct HeuristicResult {
  Algorithm algorithm;
  size_t workspaceSize;
  Status state;
  float wavesCount;
  int reserved[4];
};

using Handle = struct Context*;
using Layout = struct LayoutOpaque*;
using Desc = struct DescOpaque*;
using Preference = struct PreferenceOpaque*;

// What is looked up, by the name in the library.
struct Api {
  size_t (*cublasLtGetVersion)();
  const char* (*cublasLtGetStatusName)(Status);
  const char* (*cublasLtGetStatusString)(Status);
  Status (*cublasLtCreate)(Handle*);
  Status (*cublasLtMatrixLayoutCreate)(Layout*, cudaDataType, uint64_t rows, uint64_t columns, int64_t leading);
  Status (*cublasLtMatrixLayoutSetAttribute)(Layout, LayoutAttribute, const void*, size_t);
  Status (*cublasLtMatrixLayoutDestroy)(Layout);
  Status (*cublasLtMatmulDescCreate)(Desc*, ComputeType, cudaDataType scale);
  Status (*cublasLtMatmulDescSetAttribute)(Desc, DescAttribute, const void*, size_t);
  Status (*cublasLtMatmulDescDestroy)(Desc);
  Status (*cublasLtMatmulPreferenceCreate)(Preference*);
  Status (*cublasLtMatmulPreferenceSetAttribute)(Preference, PreferenceAttribute, const void*, size_t);
  Status (*cublasLtMatmulPreferenceDestroy)(Preference);
  Status (*cublasLtMatmulAlgoGetHeuristic)(Handle, Desc, Layout a, Layout b, Layout c, Layout d, Preference,
                                           int requested, HeuristicResult*, int* returned);
  Status (*cublasLtMatmul)(Handle, Desc, const void* alpha, const void* a, Layout, const void* b, Layout,
                           const void* beta, const void* c, Layout, void* d, Layout, const Algorithm*, void* workspace,
                           size_t workspaceBytes, cudaStream_t);
};

}  // namespace flowmap::cuda::cublaslt
