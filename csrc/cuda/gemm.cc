#include "cuda/gemm.h"

#include <algorithm>
#include <optional>
#include <string>

#include "cuda/scratch.h"

namespace flowmap::cuda {
namespace {

using namespace cublaslt;

// What NVIDIA recommends for sm_90, and enough before; only what the chosen algorithm wants is taken.
constexpr uint64_t kMaxWorkspace = uint64_t{32} << 20;
constexpr size_t kMaxPlans = 4096;
constexpr uint32_t kFullAlignment = 256;

cudaDataType typeOf(DType dtype) {
  switch (dtype) {
    case DType::Float64:
      return CUDA_R_64F;
    case DType::BFloat16:
      return CUDA_R_16BF;
    case DType::Float16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

uint32_t alignmentOf(const void* data) {
  const auto address = reinterpret_cast<uintptr_t>(data);
  return address ? static_cast<uint32_t>(std::min<uintptr_t>(address & -address, kFullAlignment)) : 0;
}

}  // namespace

// What cuBLASLt is told of a shape, and what it answered. cuBLASLt's matrices are column-major, so it sees every matrix
// of ours transposed: outᵀ = bᵀ aᵀ, its A is our b. A bias along our rows is one along its columns, which it adds.
struct GemmRunner::Plan {
  explicit Plan(const Api& library) : api(library) {}
  ~Plan() {
    for (Layout layout : {a, b, out}) {
      if (layout) api.cublasLtMatrixLayoutDestroy(layout);
    }
    if (desc) api.cublasLtMatmulDescDestroy(desc);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  const Api& api;
  Desc desc = nullptr;
  Layout a = nullptr, b = nullptr, out = nullptr;
  bool possible = false;
  Algorithm algorithm{};
  size_t workspaceBytes = 0;
};

void GemmRunner::open() {
  if (handle_) return;
  const Cublas& library = cublas();
  if (!library.found) throw Error(ErrorCode::DeviceUnavailable, runtime_.name(), library.reason);
  api_ = &library.api;
  check(api_->cublasLtCreate(&handle_), "cublasLtCreate");
}

void GemmRunner::check(Status status, const char* what) {
  if (status == kSuccess) return;
  // A lost context is not told by cuBLAS's statuses. A stream that records cannot be asked.
  const cudaError_t context = runtime_.capturing() ? cudaErrorNotReady : cudaStreamQuery(runtime_.stream());
  if (context != cudaErrorNotReady) cuda::check(context, what);
  const std::string said = std::string(api_->cublasLtGetStatusString(status)) + " (" +
                           api_->cublasLtGetStatusName(status) + " in " + what + ")";
  throw Error(status == kAllocFailed ? ErrorCode::OutOfMemory : ErrorCode::Device, runtime_.name(), said);
}

std::shared_ptr<GemmRunner::Plan> GemmRunner::makePlan(const Gemm& gemm, const GemmOperands& operands) {
  open();
  const Api& lt = *api_;
  auto plan = std::make_shared<Plan>(lt);
  const bool isDouble = gemm.type == DType::Float64;
  const ComputeType compute = isDouble ? kCompute64F : gemm.tf32 ? kCompute32FFastTf32 : kCompute32F;
  check(lt.cublasLtMatmulDescCreate(&plan->desc, compute, isDouble ? CUDA_R_64F : CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  const auto describe = [&](DescAttribute attribute, const auto& value) {
    check(lt.cublasLtMatmulDescSetAttribute(plan->desc, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute");
  };
  describe(kDescTransA, gemm.transposeB ? kOpT : kOpN);
  describe(kDescTransB, gemm.transposeA ? kOpT : kOpN);
  describe(kDescEpilogue, operands.bias ? kEpilogueBias : kEpilogueDefault);
  if (operands.bias) describe(kDescBiasPointer, operands.bias);

  const auto layout = [&](Layout& made, DType type, int64_t rows, int64_t columns, int64_t stride) {
    const auto down = static_cast<uint64_t>(columns), across = static_cast<uint64_t>(rows);
    check(lt.cublasLtMatrixLayoutCreate(&made, typeOf(type), down, across, columns), "cublasLtMatrixLayoutCreate");
    if (gemm.batches == 1) return;
    const auto batches = static_cast<int32_t>(gemm.batches);
    check(lt.cublasLtMatrixLayoutSetAttribute(made, kLayoutBatchCount, &batches, sizeof batches),
          "cublasLtMatrixLayoutSetAttribute");
    check(lt.cublasLtMatrixLayoutSetAttribute(made, kLayoutBatchStride, &stride, sizeof stride),
          "cublasLtMatrixLayoutSetAttribute");
  };
  layout(plan->a, gemm.type, gemm.transposeB ? gemm.n : gemm.k, gemm.transposeB ? gemm.k : gemm.n, gemm.strideB);
  layout(plan->b, gemm.type, gemm.transposeA ? gemm.k : gemm.m, gemm.transposeA ? gemm.m : gemm.k, gemm.strideA);
  layout(plan->out, gemm.outType, gemm.m, gemm.n, gemm.strideOut);

  Preference created = nullptr;
  check(lt.cublasLtMatmulPreferenceCreate(&created), "cublasLtMatmulPreferenceCreate");
  const std::unique_ptr<PreferenceOpaque, Status (*)(Preference)> preference(created,
                                                                             lt.cublasLtMatmulPreferenceDestroy);
  const auto prefer = [&](PreferenceAttribute attribute, const auto& value) {
    check(lt.cublasLtMatmulPreferenceSetAttribute(created, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute");
  };
  prefer(kPrefMaxWorkspaceBytes, kMaxWorkspace);
  // Parts of k are added up in the type of the sums, in a second step: neither atomics nor roundings between.
  prefer(kPrefReductionSchemeMask, kReductionComputeType);
  prefer(kPrefMinAlignmentABytes, alignmentOf(operands.b));
  prefer(kPrefMinAlignmentBBytes, alignmentOf(operands.a));
  prefer(kPrefMinAlignmentCBytes, alignmentOf(operands.out));
  prefer(kPrefMinAlignmentDBytes, alignmentOf(operands.out));

  HeuristicResult best{};
  int count = 0;
  const Status status = lt.cublasLtMatmulAlgoGetHeuristic(handle_, plan->desc, plan->a, plan->b, plan->out, plan->out,
                                                          created, 1, &best, &count);
  plan->possible = status == kSuccess && count > 0 && best.state == kSuccess;
  if (plan->possible) {
    plan->algorithm = best.algorithm;
    plan->workspaceBytes = best.workspaceSize;
  } else if (status != kSuccess && status != kNotSupported && !operands.bias) {
    check(status, "cublasLtMatmulAlgoGetHeuristic");
  }
  return plan;
}

const GemmRunner::Plan& GemmRunner::planFor(const Gemm& gemm, const GemmOperands& operands) {
  const Key key{gemm.m,
                gemm.n,
                gemm.k,
                gemm.transposeA,
                gemm.transposeB,
                gemm.type,
                gemm.outType,
                gemm.batches,
                gemm.strideA,
                gemm.strideB,
                gemm.strideOut,
                gemm.tf32,
                alignmentOf(operands.a),
                alignmentOf(operands.b),
                alignmentOf(operands.out),
                alignmentOf(operands.bias)};
  if (const auto known = plans_.find(key); known != plans_.end()) return *known->second;
  if (plans_.size() >= kMaxPlans) plans_.clear();
  return *(plans_[key] = makePlan(gemm, operands));
}

bool GemmRunner::run(Device& device, const Gemm& gemm, const GemmOperands& operands) {
  const Plan& plan = planFor(gemm, operands);
  if (!plan.possible) {
    if (operands.bias) return false;
    fail(ErrorCode::Device, runtime_.name(), "cuBLAS ", cublas().version, " has no algorithm for a product of ", gemm.m,
         " × ", gemm.n, " over ", gemm.k, " in ", dtypeName(gemm.type), ", ", gemm.batches, " at once");
  }
  if (operands.bias) {
    check(api_->cublasLtMatmulDescSetAttribute(plan.desc, kDescBiasPointer, &operands.bias, sizeof operands.bias),
          "cublasLtMatmulDescSetAttribute");
  }
  std::optional<Scratch<uint8_t>> workspace;
  if (plan.workspaceBytes) workspace.emplace(device, static_cast<int64_t>(plan.workspaceBytes));
  const double oneDouble = 1, betaDouble = gemm.accumulate ? 1 : 0;
  const float oneFloat = 1, betaFloat = gemm.accumulate ? 1 : 0;
  const bool isDouble = gemm.type == DType::Float64;
  const void* one = isDouble ? static_cast<const void*>(&oneDouble) : &oneFloat;
  const void* beta = isDouble ? static_cast<const void*>(&betaDouble) : &betaFloat;
  check(api_->cublasLtMatmul(handle_, plan.desc, one, operands.b, plan.a, operands.a, plan.b, beta, operands.out,
                             plan.out, operands.out, plan.out, &plan.algorithm, workspace ? workspace->data() : nullptr,
                             plan.workspaceBytes, runtime_.stream()),
        "cublasLtMatmul");
  return true;
}

}  // namespace flowmap::cuda
