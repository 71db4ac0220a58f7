// A libcublasLt.so.13 for the emulator: the entry points that flowmap uses, as strict as the real ones, or stricter
// where the documentation leaves it open.
#include <cstring>

#include "objects.h"

using namespace flowmap::simt;

namespace {

// What an algorithm of the stand-in remembers, in the 64 opaque bytes: the problem it was chosen for.
struct Chosen {
  uint64_t magic, problem;
  uint32_t alignments[4];
  uint64_t workspaceBytes;
};
static_assert(sizeof(Chosen) <= sizeof(Algorithm));
constexpr uint64_t kMagic = 0x666c6f776d6170;
constexpr uint32_t kKnownAlignments = 256;

uint64_t digest(const DescOpaque& desc, const LayoutOpaque& a, const LayoutOpaque& b, const LayoutOpaque& c,
                const LayoutOpaque& d) {
  uint64_t hash = 1469598103934665603u;
  const auto add = [&](uint64_t value) { hash = (hash ^ value) * 1099511628211u; };
  add(desc.compute), add(desc.transA), add(desc.transB), add(desc.epilogue);
  for (const LayoutOpaque* x : {&a, &b, &c, &d}) {
    add(x->type), add(x->rows), add(x->columns), add(x->leading), add(x->batches), add(x->stride);
  }
  return hash;
}

bool isAligned(const void* data, uint32_t alignment) { return reinterpret_cast<uintptr_t>(data) % alignment == 0; }

template <class T>
Status set(T& field, const void* value, size_t bytes) {
  if (!value || bytes != sizeof field) return kInvalidValue;
  std::memcpy(&field, value, bytes);
  return kSuccess;
}

bool typesAgree(const DescOpaque& desc, cudaDataType in, cudaDataType out) {
  switch (desc.compute) {
    case kCompute64F:
      return in == CUDA_R_64F && out == CUDA_R_64F;
    case kCompute32F:
      return (in == CUDA_R_32F && out == CUDA_R_32F) ||
             ((in == CUDA_R_16BF || in == CUDA_R_16F) && (out == in || out == CUDA_R_32F));
    case kCompute32FFastTf32:
      return in == CUDA_R_32F && out == CUDA_R_32F;
  }
  return false;
}

// As the real one does where a matrix has one row or column.
bool canAddBias(const Problem& problem) { return problem.m > 1 && problem.n > 1; }

}  // namespace

namespace flowmap::simt {

Problem examine(const DescOpaque& desc, const LayoutOpaque& a, const LayoutOpaque& b, const LayoutOpaque& c,
                const LayoutOpaque& d) {
  Problem p;
  const bool ta = desc.transA == kOpT, tb = desc.transB == kOpT;
  p.m = ta ? a.columns : a.rows, p.k = ta ? a.rows : a.columns, p.n = tb ? b.rows : b.columns;
  const uint64_t otherK = tb ? b.columns : b.rows;
  const auto fits = [](const LayoutOpaque& x) {
    return x.rows >= 1 && x.columns >= 1 && x.rows <= INT32_MAX && x.columns <= INT32_MAX &&
           x.leading >= int64_t(x.rows) && x.batches >= 1 && x.stride >= 0;
  };
  const bool same = c.type == d.type && c.rows == d.rows && c.columns == d.columns && c.batches == d.batches;
  const int64_t extent = d.leading * (int64_t(d.columns) - 1) + int64_t(d.rows);
  const bool overlaps = d.batches > 1 && d.stride < extent;
  if (!fits(a) || !fits(b) || !fits(c) || !fits(d) || !same || overlaps || otherK != p.k || d.rows != p.m ||
      d.columns != p.n || a.batches != d.batches || b.batches != d.batches) {
    p.status = kInvalidValue;
  } else if (a.type != b.type || !typesAgree(desc, a.type, d.type) ||
             desc.scale != (desc.compute == kCompute64F ? CUDA_R_64F : CUDA_R_32F)) {
    p.status = kNotSupported;
  } else if (desc.epilogue != kEpilogueDefault && desc.epilogue != kEpilogueBias) {
    p.status = kNotSupported;
  } else if (desc.epilogue == kEpilogueBias && !desc.bias) {
    p.status = kInvalidValue;
  }
  return p;
}

}  // namespace flowmap::simt

extern "C" {

size_t cublasLtGetVersion() { return 130000; }

const char* cublasLtGetStatusName(Status status) {
  switch (status) {
    case kSuccess:
      return "CUBLAS_STATUS_SUCCESS";
    case kNotInitialized:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case kInvalidValue:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case kExecutionFailed:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case kNotSupported:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}
const char* cublasLtGetStatusString(Status status) {
  return status == kInvalidValue ? "an unsupported value or parameter was passed to the function"
                                 : "the emulated cuBLAS refused";
}

Status cublasLtCreate(Handle* handle) {
  *handle = new Context;
  return kSuccess;
}

Status cublasLtMatrixLayoutCreate(Layout* layout, cudaDataType type, uint64_t rows, uint64_t columns, int64_t leading) {
  *layout = new LayoutOpaque{type, rows, columns, leading};
  return kSuccess;
}
Status cublasLtMatrixLayoutSetAttribute(Layout layout, LayoutAttribute attribute, const void* value, size_t bytes) {
  if (attribute == kLayoutBatchCount) return set(layout->batches, value, bytes);
  if (attribute == kLayoutBatchStride) return set(layout->stride, value, bytes);
  return kInvalidValue;
}
Status cublasLtMatrixLayoutDestroy(Layout layout) {
  delete layout;
  return kSuccess;
}

Status cublasLtMatmulDescCreate(Desc* desc, ComputeType compute, cudaDataType scale) {
  *desc = new DescOpaque{compute, scale};
  return kSuccess;
}
Status cublasLtMatmulDescSetAttribute(Desc desc, DescAttribute attribute, const void* value, size_t bytes) {
  switch (attribute) {
    case kDescTransA:
      return set(desc->transA, value, bytes);
    case kDescTransB:
      return set(desc->transB, value, bytes);
    case kDescEpilogue:
      return set(desc->epilogue, value, bytes);
    case kDescBiasPointer:
      return set(desc->bias, value, bytes);
  }
  return kInvalidValue;
}
Status cublasLtMatmulDescDestroy(Desc desc) {
  delete desc;
  return kSuccess;
}

Status cublasLtMatmulPreferenceCreate(Preference* preference) {
  *preference = new PreferenceOpaque;
  return kSuccess;
}
Status cublasLtMatmulPreferenceSetAttribute(Preference preference, PreferenceAttribute attribute, const void* value,
                                            size_t bytes) {
  if (attribute == kPrefMaxWorkspaceBytes) return set(preference->maxWorkspaceBytes, value, bytes);
  if (attribute == kPrefReductionSchemeMask) return set(preference->reductionSchemeMask, value, bytes);
  if (attribute < kPrefMinAlignmentABytes || attribute > kPrefMinAlignmentDBytes) return kInvalidValue;
  return set(preference->alignments[attribute - kPrefMinAlignmentABytes], value, bytes);
}
Status cublasLtMatmulPreferenceDestroy(Preference preference) {
  delete preference;
  return kSuccess;
}

Status cublasLtMatmulAlgoGetHeuristic(Handle handle, Desc desc, Layout a, Layout b, Layout c, Layout d,
                                      Preference preference, int requested, HeuristicResult* results, int* returned) {
  if (!handle || handle->alive != Context::kAlive) return kNotInitialized;
  if (!desc || !a || !b || !c || !d || !preference || requested < 1 || !results || !returned) return kInvalidValue;
  *returned = 0;
  const Problem problem = examine(*desc, *a, *b, *c, *d);
  if (problem.status != kSuccess) return problem.status;
  if (desc->epilogue == kEpilogueBias && !canAddBias(problem)) return kNotSupported;
  // Order is what a fixed algorithm must not leave to chance.
  if (preference->reductionSchemeMask & ~uint32_t{kReductionComputeType}) return kNotSupported;
  for (const uint32_t alignment : preference->alignments) {
    if (alignment == 0 || (alignment & (alignment - 1)) || alignment > kKnownAlignments) return kInvalidValue;
  }
  // Long sums are cut, into parts that lie in the workspace, where there is one.
  const uint64_t wanted = problem.k >= 64 ? 2 * problem.m * problem.n * sizeof(float) : 0;
  Chosen chosen{kMagic, digest(*desc, *a, *b, *c, *d), {}, wanted <= preference->maxWorkspaceBytes ? wanted : 0};
  std::memcpy(chosen.alignments, preference->alignments, sizeof chosen.alignments);
  *results = {};
  std::memcpy(&results->algorithm, &chosen, sizeof chosen);
  results->workspaceSize = chosen.workspaceBytes;
  results->state = kSuccess;
  results->wavesCount = 1;
  *returned = 1;
  return kSuccess;
}

Status cublasLtMatmul(Handle handle, Desc desc, const void* alpha, const void* a, Layout aLayout, const void* b,
                      Layout bLayout, const void* beta, const void* c, Layout cLayout, void* d, Layout dLayout,
                      const Algorithm* algorithm, void* workspace, size_t workspaceBytes, cudaStream_t stream) {
  if (!handle || handle->alive != Context::kAlive) return kNotInitialized;
  if (!desc || !alpha || !beta || !a || !b || !c || !d || !aLayout || !bLayout || !cLayout || !dLayout || !algorithm) {
    return kInvalidValue;
  }
  const Problem problem = examine(*desc, *aLayout, *bLayout, *cLayout, *dLayout);
  if (problem.status != kSuccess) return problem.status;
  Chosen chosen;
  std::memcpy(&chosen, algorithm, sizeof chosen);
  if (chosen.magic != kMagic || chosen.problem != digest(*desc, *aLayout, *bLayout, *cLayout, *dLayout)) {
    return kInvalidValue;
  }
  const void* const data[4] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (!isAligned(data[i], chosen.alignments[i])) return kInvalidValue;
  }
  if (desc->epilogue == kEpilogueBias && !isAligned(desc->bias, uint32_t(bytesOf(dLayout->type)))) return kInvalidValue;
  if (workspaceBytes < chosen.workspaceBytes) return kInvalidValue;
  if (chosen.workspaceBytes > 0 && (!workspace || !isAligned(workspace, kKnownAlignments))) return kInvalidValue;
  if (c == d && (cLayout->leading != dLayout->leading || cLayout->stride != dLayout->stride)) return kInvalidValue;
  const auto scalar = [&](const void* value) {
    return desc->scale == CUDA_R_64F ? *static_cast<const double*>(value) : *static_cast<const float*>(value);
  };
  return enqueueProduct({*desc, *aLayout, *bLayout, *cLayout, *dLayout, a, b, c, d, workspace, chosen.workspaceBytes,
                         scalar(alpha), scalar(beta)},
                        stream);
}
}
