// The stand-in for cuBLAS: what it computes, when it computes, what it refuses at the call, and what its work must not
// touch.
#include <dlfcn.h>

#include "../../../../../csrc/cuda/cublas_api.h"
#include "../check.cuh"

using namespace selftest;
using namespace flowmap::cuda::cublaslt;

namespace {

const Api& api() {
  static const Api found = [] {
    Api a{};
    void* library = dlopen("libcublasLt.so.13", RTLD_NOW);
    const auto bind = [&](auto& entry, const char* name) {
      entry = reinterpret_cast<std::decay_t<decltype(entry)>>(library ? dlsym(library, name) : nullptr);
    };
    bind(a.cublasLtCreate, "cublasLtCreate");
    bind(a.cublasLtMatrixLayoutCreate, "cublasLtMatrixLayoutCreate");
    bind(a.cublasLtMatrixLayoutSetAttribute, "cublasLtMatrixLayoutSetAttribute");
    bind(a.cublasLtMatmulDescCreate, "cublasLtMatmulDescCreate");
    bind(a.cublasLtMatmulDescSetAttribute, "cublasLtMatmulDescSetAttribute");
    bind(a.cublasLtMatmulPreferenceCreate, "cublasLtMatmulPreferenceCreate");
    bind(a.cublasLtMatmulPreferenceSetAttribute, "cublasLtMatmulPreferenceSetAttribute");
    bind(a.cublasLtMatmulAlgoGetHeuristic, "cublasLtMatmulAlgoGetHeuristic");
    bind(a.cublasLtMatmul, "cublasLtMatmul");
    return a;
  }();
  return found;
}

// A product of column-major matrices; cases change what they need.
struct Call {
  ComputeType compute = kCompute32F;
  cudaDataType scale = CUDA_R_32F, type = CUDA_R_32F, outType = CUDA_R_32F;
  int32_t transA = kOpN, transB = kOpN, batches = 1;
  uint64_t m = 3, n = 2, k = 4, otherK = 4;
  int64_t leadingA = 0, strideD = -1;  // 0, -1: as they should be
  uint32_t reductions = kReductionComputeType, alignment = 4;
  const void* bias = nullptr;
  float beta = 0;
  size_t workspaceLess = 0;
  void* workspace = nullptr;
  int64_t changedRows = 0;  // of another A than the algorithm was chosen for

  Status operator()(const void* a, const void* b, void* d) const {
    Handle handle;
    Desc desc;
    Preference preference;
    api().cublasLtCreate(&handle);
    api().cublasLtMatmulDescCreate(&desc, compute, scale);
    api().cublasLtMatmulDescSetAttribute(desc, kDescTransA, &transA, sizeof transA);
    api().cublasLtMatmulDescSetAttribute(desc, kDescTransB, &transB, sizeof transB);
    if (bias) {
      const uint32_t epilogue = kEpilogueBias;
      api().cublasLtMatmulDescSetAttribute(desc, kDescEpilogue, &epilogue, sizeof epilogue);
      api().cublasLtMatmulDescSetAttribute(desc, kDescBiasPointer, &bias, sizeof bias);
    }
    const auto layout = [&](cudaDataType t, uint64_t rows, uint64_t columns, int64_t leading, int64_t stride) {
      Layout made;
      api().cublasLtMatrixLayoutCreate(&made, t, rows, columns, leading ? leading : int64_t(rows));
      if (batches > 1) {
        if (stride < 0) stride = int64_t(rows * columns);
        api().cublasLtMatrixLayoutSetAttribute(made, kLayoutBatchCount, &batches, sizeof batches);
        api().cublasLtMatrixLayoutSetAttribute(made, kLayoutBatchStride, &stride, sizeof stride);
      }
      return made;
    };
    const Layout aLayout = transA ? layout(type, k, m, leadingA, -1) : layout(type, m, k, leadingA, -1);
    const Layout bLayout = transB ? layout(type, n, otherK, 0, -1) : layout(type, otherK, n, 0, -1);
    const Layout dLayout = layout(outType, m, n, 0, strideD);
    api().cublasLtMatmulPreferenceCreate(&preference);
    const uint64_t most = 1 << 20;
    api().cublasLtMatmulPreferenceSetAttribute(preference, kPrefMaxWorkspaceBytes, &most, sizeof most);
    api().cublasLtMatmulPreferenceSetAttribute(preference, kPrefReductionSchemeMask, &reductions, sizeof reductions);
    for (int which = kPrefMinAlignmentABytes; which <= kPrefMinAlignmentDBytes; ++which) {
      api().cublasLtMatmulPreferenceSetAttribute(preference, PreferenceAttribute(which), &alignment, sizeof alignment);
    }
    HeuristicResult best;
    int count = 0;
    const Status chosen = api().cublasLtMatmulAlgoGetHeuristic(handle, desc, aLayout, bLayout, dLayout, dLayout,
                                                               preference, 1, &best, &count);
    if (chosen != kSuccess) return chosen;
    const Layout now = changedRows ? layout(type, uint64_t(changedRows), k, changedRows, -1) : aLayout;
    const double oneDouble = 1, betaDouble = beta;
    const float one = 1;
    const bool isDouble = scale == CUDA_R_64F;
    return api().cublasLtMatmul(handle, desc, isDouble ? static_cast<const void*>(&oneDouble) : &one, a, now, b,
                                bLayout, isDouble ? static_cast<const void*>(&betaDouble) : &beta, d, dLayout, d,
                                dLayout, &best.algorithm, workspace, best.workspaceSize - workspaceLess, nullptr);
  }
};

const std::vector<float> kA{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};  // 3 × 4
const std::vector<float> kB{1, 0, 0, 1, 2, 1, 0, 0};                 // 4 × 2
const std::vector<float> kProduct{11, 13, 15, 6, 9, 12};

bool multiplies() {
  const Device<float> a(kA), b(kB), bias(std::vector<float>{100, 200, 300});
  Device<float> d(kProduct.size());
  Call call;
  if (call(a.data, b.data, d.data) != kSuccess || d.read() != kProduct) return false;
  call.bias = bias.data;
  call.beta = 2;
  if (call(a.data, b.data, d.data) != kSuccess) return false;
  return d.read() == std::vector<float>{133, 239, 345, 118, 227, 336};
}

bool transposesAndBatches() {
  // Aᵀ is [4, 3] and Bᵀ [2, 4], twice.
  const std::vector<float> at{1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12}, bt{1, 2, 0, 1, 0, 0, 1, 0};
  const auto twice = [](std::vector<float> x) {
    const std::vector<float> once = x;
    for (const float value : once) x.push_back(2 * value);
    return x;
  };
  const Device<float> a(twice(at)), b(twice(bt));
  Device<float> d(12);
  Call call;
  call.transA = call.transB = kOpT;
  call.batches = 2;
  if (call(a.data, b.data, d.data) != kSuccess) return false;
  std::vector<float> expected = kProduct;
  for (const float value : kProduct) expected.push_back(4 * value);
  return d.read() == expected;
}

bool worksInTheStreamsOrder() {
  Device<float> a(kA), d(kProduct.size());
  const Device<float> b(kB);
  const std::vector<float> zeros(kA.size(), 0);
  if (Call{}(a.data, b.data, d.data) != kSuccess) return false;
  cudaMemcpyAsync(a.data, zeros.data(), zeros.size() * sizeof(float), cudaMemcpyHostToDevice, nullptr);
  return d.read() == kProduct && a.read() == zeros;
}

bool refusesMisuse() {
  Device<float> a(64), b(64), d(64);
  const auto status = [&](auto change) {
    Call call;
    change(call);
    return call(a.data, b.data, d.data);
  };
  bool right = status([](Call&) {}) == kSuccess;
  const auto refuse = [&](Status expected, auto change) { right = right && status(change) == expected; };
  refuse(kInvalidValue, [](Call& c) { c.otherK = 5; });
  refuse(kInvalidValue, [](Call& c) { c.leadingA = 2; });
  refuse(kInvalidValue, [](Call& c) { c.m = 0; });
  refuse(kInvalidValue, [](Call& c) { c.batches = 2, c.strideD = 5; });
  refuse(kInvalidValue, [](Call& c) { c.changedRows = 4; });
  refuse(kInvalidValue, [](Call& c) { c.alignment = 3; });
  refuse(kInvalidValue, [](Call& c) { c.k = c.otherK = 64, c.m = c.n = 1, c.workspaceLess = 1; });
  refuse(kInvalidValue, [](Call& c) { c.k = c.otherK = 64, c.m = c.n = 1; });  // without a workspace
  refuse(kNotSupported, [](Call& c) { c.reductions = 7; });
  refuse(kNotSupported, [](Call& c) { c.scale = CUDA_R_64F; });
  refuse(kNotSupported, [](Call& c) { c.outType = CUDA_R_16BF; });
  refuse(kNotSupported, [](Call& c) { c.type = c.outType = CUDA_R_64F; });
  refuse(kNotSupported, [&](Call& c) { c.n = 1, c.bias = a.data; });
  Call call;
  call.alignment = 256;
  return right && call(a.data + 1, b.data, d.data) == kInvalidValue && call(nullptr, b.data, d.data) == kInvalidValue;
}

bool readsUnwritten() {
  const Device<float> b(kB);
  Device<float> d(kProduct.size());
  float* a = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&a), kA.size() * sizeof(float));
  return Call{}(a, b.data, d.data) == kSuccess;
}

bool writesPastTheEnd() {
  const Device<float> a(kA), b(kB);
  Device<float> d(kProduct.size() - 1);
  return Call{}(a.data, b.data, d.data) == kSuccess;
}

bool usesUpTheWorkspace() {
  const Device<float> a(64), b(64);
  Device<float> d(1);
  Device<float> space(2);
  Call call;
  call.m = call.n = 1, call.k = call.otherK = 64;
  call.workspace = space.data;
  if (call(a.data, b.data, d.data) != kSuccess) return false;
  return std::isnan(space.read()[1]);
}

}  // namespace

int main(int count, char** arguments) {
  return runCases({{"multiplies", multiplies},
                   {"transposesAndBatches", transposesAndBatches},
                   {"worksInTheStreamsOrder", worksInTheStreamsOrder},
                   {"refusesMisuse", refusesMisuse},
                   {"usesUpTheWorkspace", usesUpTheWorkspace},
                   {"readsUnwritten", readsUnwritten},
                   {"writesPastTheEnd", writesPastTheEnd}},
                  count, arguments);
}
