// A guard on the stream: copies values, and records a fault where one is not finite, in the first such row.
#include <cmath>
#include <cstring>
#include <mutex>
#include <sstream>
#include <vector>

#include "core/dispatch.h"
#include "cuda/backend.h"
#include "cuda/launch.cuh"
#include "cuda/packet.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {
namespace {

constexpr unsigned long long kNone = ~0ull;
constexpr int kRowBits = 44;  // of a fault's position; above them is the name

// Names of what is checked, numbered for faults. Programs use few, and each again and again.
class Names {
 public:
  int64_t number(const std::string& name) {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < names_.size(); ++i) {
      if (names_[i] == name) return static_cast<int64_t>(i);
    }
    names_.push_back(name);
    return static_cast<int64_t>(names_.size() - 1);
  }
  std::string name(int64_t number) {
    const std::lock_guard lock(mutex_);
    return names_[static_cast<size_t>(number)];
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> names_;
};
Names& checkedNames = *new Names;  // never destroyed: a read may end after static destruction

std::string describeNotFinite(const Fault& fault) {
  double value;
  std::memcpy(&value, &fault.value, sizeof(value));
  std::ostringstream text;
  text << checkedNames.name(fault.position >> kRowBits) << " is " << value << " in row "
       << (fault.position & ((int64_t{1} << kRowBits) - 1));
  return text.str();
}

template <class T>
__device__ __forceinline__ bool isFinite(T value) {
  return fabs(static_cast<Compute<T>>(value)) < Compute<T>(INFINITY);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    findNotFiniteKernel(T* y, const T* x, int64_t n, unsigned long long* first) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    const T value = x[i];
    y[i] = value;
    if (!isFinite(value)) atomicMin(first, static_cast<unsigned long long>(i));
  }
}

template <class T>
__global__ void raiseNotFiniteKernel(const T* x, const unsigned long long* first, int64_t perRow, int64_t name,
                                     FaultRecord* fault, FaultName op) {
  if (*first == kNone) return;
  const int64_t at = static_cast<int64_t>(*first);
  raise(fault, FaultKind::NotFinite, op, __double_as_longlong(static_cast<double>(static_cast<Compute<T>>(x[at]))),
        (name << kRowBits) | (at / perRow));
}

}  // namespace

void CudaBackend::checkFinite(const Tensor& y, const Tensor& x, const std::string& what) {
  const int64_t n = x.numel();
  if (n == 0) return;
  const int64_t rows = x.rank() == 0 ? 1 : x.shape()[0];
  const FaultName op = runtime_.nameFault("checkFinite", ErrorCode::Numerical, describeNotFinite, y);
  const Scratch<unsigned long long> first(x.device(), 1);
  check(cudaMemsetAsync(first.data(), 0xff, sizeof(kNone), runtime_.stream()), "checkFinite");
  dispatchFloating(x.dtype(), [&]<class T>() {
    launchKernel(runtime_, findNotFiniteKernel<T>, gridFor(runtime_, n), y.data<T>(), x.data<const T>(), n,
                 first.data());
    launchKernel(runtime_, raiseNotFiniteKernel<T>, Grid{dim3(1), dim3(1)}, x.data<const T>(), first.data(), n / rows,
                 checkedNames.number(what), runtime_.fault(), op);
  });
}

}  // namespace flowmap::cuda
