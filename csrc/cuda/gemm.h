// Row-major matrix products by cuBLASLt, enqueued on the device's stream. For each shape an algorithm is chosen once
// and kept; it never adds up in an order that may vary.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <tuple>

#include "core/device.h"
#include "core/dtype.h"
#include "cuda/cublas.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {

// out [m, n] = a b (+ out) (+ bias along n), `batches` of them, strides in elements. a is [m, k], or [k, m] transposed;
// b is [k, n], or [n, k] transposed. All sizes are at least 1. 16-bit types are added up in float.
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  bool transposeA = false, transposeB = false;
  DType type = DType::Float32, outType = DType::Float32;  // of a and b; of out and bias: the same, or float of 16-bit
  int64_t batches = 1, strideA = 0, strideB = 0, strideOut = 0;
  bool accumulate = false;
  bool tf32 = false;  // float32 only
};

struct GemmOperands {
  const void *a = nullptr, *b = nullptr, *bias = nullptr;
  void* out = nullptr;
};

class GemmRunner {
 public:
  explicit GemmRunner(Runtime& runtime) : runtime_(runtime) {}

  // False where there is no algorithm that adds the bias as well; nothing is enqueued then. Throws
  // Error(DeviceUnavailable) without cuBLAS, Error(Device) where it refuses.
  bool run(Device& device, const Gemm& gemm, const GemmOperands& operands);

 private:
  struct Plan;
  using Key = std::tuple<int64_t, int64_t, int64_t, bool, bool, DType, DType, int64_t, int64_t, int64_t, int64_t, bool,
                         uint32_t, uint32_t, uint32_t, uint32_t>;

  void open();
  void check(cublaslt::Status status, const char* what);
  const Plan& planFor(const Gemm& gemm, const GemmOperands& operands);
  std::shared_ptr<Plan> makePlan(const Gemm& gemm, const GemmOperands& operands);

  Runtime& runtime_;
  const cublaslt::Api* api_ = nullptr;
  cublaslt::Handle handle_ = nullptr;
  std::map<Key, std::shared_ptr<Plan>> plans_;
};

}  // namespace flowmap::cuda
