// Elementwise kernels with broadcasting.
#include <cmath>

#include "core/dispatch.h"
#include "cpu/backend.h"

namespace flowmap::cpu {
namespace {

template <class C>
C apply(UnaryOp op, C x) {
  switch (op) {
    case UnaryOp::Neg: return -x;
    case UnaryOp::Abs: return std::abs(x);
    case UnaryOp::Sign: return static_cast<C>((x > 0) - (x < 0));
    case UnaryOp::Square: return x * x;
    case UnaryOp::Sqrt: return static_cast<C>(std::sqrt(x));
    case UnaryOp::Rsqrt: return static_cast<C>(1 / std::sqrt(x));
    case UnaryOp::Reciprocal: return 1 / x;
    case UnaryOp::Exp: return static_cast<C>(std::exp(x));
    case UnaryOp::Expm1: return static_cast<C>(std::expm1(x));
    case UnaryOp::Log: return static_cast<C>(std::log(x));
    case UnaryOp::Log1p: return static_cast<C>(std::log1p(x));
    case UnaryOp::Sin: return static_cast<C>(std::sin(x));
    case UnaryOp::Cos: return static_cast<C>(std::cos(x));
    case UnaryOp::Tanh: return static_cast<C>(std::tanh(x));
    case UnaryOp::Sigmoid: return static_cast<C>(1 / (1 + std::exp(-x)));
    case UnaryOp::Floor: return static_cast<C>(std::floor(x));
    case UnaryOp::LogicalNot: return static_cast<C>(x == 0);
  }
  return x;
}

template <class C>
C apply(BinaryOp op, C a, C b) {
  switch (op) {
    case BinaryOp::Add: return a + b;
    case BinaryOp::Sub: return a - b;
    case BinaryOp::Mul: return a * b;
    case BinaryOp::Div: return a / b;
    case BinaryOp::Pow: return static_cast<C>(std::pow(a, b));
    case BinaryOp::Maximum: return a > b || a != a ? a : b;
    case BinaryOp::Minimum: return a < b || a != a ? a : b;
  }
  return a;
}

}  // namespace

void CpuBackend::unary(UnaryOp op, const Tensor& out, const Tensor& x) {
  dispatchFloating(out.dtype(), [&]<class T>() {
    T* y = out.data<T>();
    const T* from = x.data<T>();
    for (int64_t i = 0; i < out.numel(); ++i) y[i] = static_cast<T>(apply(op, static_cast<Compute<T>>(from[i])));
  });
}

void CpuBackend::binary(BinaryOp op, const Tensor& out, const Tensor& a, const Tensor& b) {
  const int rank = out.rank();
  std::array<int64_t, kMaxRank> aStride{}, bStride{};
  int64_t aNext = 1, bNext = 1;
  for (int axis = rank - 1; axis >= 0; --axis) {
    const int aAxis = axis - (rank - a.rank()), bAxis = axis - (rank - b.rank());
    if (aAxis >= 0 && a.shape()[aAxis] != 1) aStride[axis] = aNext;
    if (bAxis >= 0 && b.shape()[bAxis] != 1) bStride[axis] = bNext;
    if (aAxis >= 0) aNext *= a.shape()[aAxis];
    if (bAxis >= 0) bNext *= b.shape()[bAxis];
  }
  dispatchFloating(out.dtype(), [&]<class T>() {
    T* y = out.data<T>();
    for (int64_t i = 0; i < out.numel(); ++i) {
      int64_t rest = i, ai = 0, bi = 0;
      for (int axis = rank - 1; axis >= 0; --axis) {
        const int64_t index = rest % out.shape()[axis];
        rest /= out.shape()[axis];
        ai += index * aStride[axis];
        bi += index * bStride[axis];
      }
      y[i] = static_cast<T>(
          apply(op, static_cast<Compute<T>>(a.data<T>()[ai]), static_cast<Compute<T>>(b.data<T>()[bi])));
    }
  });
}

}  // namespace flowmap::cpu
