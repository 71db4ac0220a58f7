// Functions of one tensor. The transcendental ones are CUDA's library in full precision.
#include "cuda/backend.h"
#include "cuda/map.cuh"
#include "cuda/scalar_lanes.cuh"

namespace flowmap::cuda {
namespace {

template <UnaryOp kOp>
struct Unary {
  template <class T>
  __device__ __forceinline__ T operator()(T x) const {
    const Lane<T> d;
    if constexpr (kOp == UnaryOp::Neg) return hn::Neg(x);
    if constexpr (kOp == UnaryOp::Abs) return hn::Abs(x);
    if constexpr (kOp == UnaryOp::Sign) return signOf(d, x);
    if constexpr (kOp == UnaryOp::Square) return hn::Mul(x, x);
    if constexpr (kOp == UnaryOp::Sqrt) return ::sqrt(x);
    if constexpr (kOp == UnaryOp::Rsqrt) return 1 / ::sqrt(x);  // CUDA's rsqrt differs in the last place
    if constexpr (kOp == UnaryOp::Reciprocal) return 1 / x;
    if constexpr (kOp == UnaryOp::Exp) return ::exp(x);
    if constexpr (kOp == UnaryOp::Expm1) return ::expm1(x);
    if constexpr (kOp == UnaryOp::Log) return ::log(x);
    if constexpr (kOp == UnaryOp::Log1p) return ::log1p(x);
    if constexpr (kOp == UnaryOp::Sin) return ::sin(x);
    if constexpr (kOp == UnaryOp::Cos) return ::cos(x);
    if constexpr (kOp == UnaryOp::Tanh) return ::tanh(x);
    if constexpr (kOp == UnaryOp::Sigmoid) return sigmoid(d, x);
    if constexpr (kOp == UnaryOp::Floor) return ::floor(x);
  }
};

struct LogicalNot {
  __device__ __forceinline__ bool operator()(uint8_t x) const { return x == 0; }
};

template <UnaryOp kOp>
void launchUnary(const Runtime& runtime, const Tensor& out, const Tensor& x) {
  const auto launch = [&]<class T>() { mapFlat(runtime, out.data<T>(), out.numel(), Unary<kOp>{}, x.data<const T>()); };
  if constexpr (kOp == UnaryOp::Neg || kOp == UnaryOp::Abs || kOp == UnaryOp::Sign || kOp == UnaryOp::Square) {
    if (x.dtype() == DType::Int32) return launch.template operator()<int32_t>();
  }
  dispatchFloating(x.dtype(), launch);
}

}  // namespace

void CudaBackend::unary(UnaryOp op, const Tensor& out, const Tensor& x) {
  switch (op) {
    case UnaryOp::Neg:
      return launchUnary<UnaryOp::Neg>(runtime_, out, x);
    case UnaryOp::Abs:
      return launchUnary<UnaryOp::Abs>(runtime_, out, x);
    case UnaryOp::Sign:
      return launchUnary<UnaryOp::Sign>(runtime_, out, x);
    case UnaryOp::Square:
      return launchUnary<UnaryOp::Square>(runtime_, out, x);
    case UnaryOp::Sqrt:
      return launchUnary<UnaryOp::Sqrt>(runtime_, out, x);
    case UnaryOp::Rsqrt:
      return launchUnary<UnaryOp::Rsqrt>(runtime_, out, x);
    case UnaryOp::Reciprocal:
      return launchUnary<UnaryOp::Reciprocal>(runtime_, out, x);
    case UnaryOp::Exp:
      return launchUnary<UnaryOp::Exp>(runtime_, out, x);
    case UnaryOp::Expm1:
      return launchUnary<UnaryOp::Expm1>(runtime_, out, x);
    case UnaryOp::Log:
      return launchUnary<UnaryOp::Log>(runtime_, out, x);
    case UnaryOp::Log1p:
      return launchUnary<UnaryOp::Log1p>(runtime_, out, x);
    case UnaryOp::Sin:
      return launchUnary<UnaryOp::Sin>(runtime_, out, x);
    case UnaryOp::Cos:
      return launchUnary<UnaryOp::Cos>(runtime_, out, x);
    case UnaryOp::Tanh:
      return launchUnary<UnaryOp::Tanh>(runtime_, out, x);
    case UnaryOp::Sigmoid:
      return launchUnary<UnaryOp::Sigmoid>(runtime_, out, x);
    case UnaryOp::Floor:
      return launchUnary<UnaryOp::Floor>(runtime_, out, x);
    case UnaryOp::LogicalNot:
      return mapFlat(runtime_, out.data<uint8_t>(), out.numel(), LogicalNot{}, x.data<const uint8_t>());
  }
}

}  // namespace flowmap::cuda
