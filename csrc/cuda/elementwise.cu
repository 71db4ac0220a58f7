// Operations of two and three tensors, comparisons, selection and bounds; functions of one are in elementwise_unary.cu.
#include "core/convert_element.h"
#include "cuda/backend.h"
#include "cuda/map.cuh"
#include "cuda/scalar_lanes.cuh"

namespace flowmap::cuda {
namespace {

template <BinaryOp kOp>
struct Binary {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    const Lane<T> d;
    if constexpr (kOp == BinaryOp::Add) return hn::Add(a, b);
    if constexpr (kOp == BinaryOp::Sub) return hn::Sub(a, b);
    if constexpr (kOp == BinaryOp::Mul) return hn::Mul(a, b);
    if constexpr (kOp == BinaryOp::Div) return hn::Div(a, b);
    if constexpr (kOp == BinaryOp::Maximum) return maximum(d, a, b);
    if constexpr (kOp == BinaryOp::Minimum) return minimum(d, a, b);
    if constexpr (kOp == BinaryOp::Pow) {  // exponents for which pow is exactly or nearly a product
      if (b == 2) return a * a;
      if (b == 3) return a * a * a;
      if (b == -1) return 1 / a;
      return ::pow(a, b);
    }
  }
};

template <class Body>
void dispatchBinary(BinaryOp op, Body body) {
  switch (op) {
    case BinaryOp::Add:
      return body.template operator()<BinaryOp::Add>();
    case BinaryOp::Sub:
      return body.template operator()<BinaryOp::Sub>();
    case BinaryOp::Mul:
      return body.template operator()<BinaryOp::Mul>();
    case BinaryOp::Div:
      return body.template operator()<BinaryOp::Div>();
    case BinaryOp::Pow:
      return body.template operator()<BinaryOp::Pow>();
    case BinaryOp::Maximum:
      return body.template operator()<BinaryOp::Maximum>();
    case BinaryOp::Minimum:
      return body.template operator()<BinaryOp::Minimum>();
  }
}

template <class Body>
void dispatchNumeric(DType dtype, Body body) {
  if (dtype == DType::Int32) return body.template operator()<int32_t>();
  dispatchFloating(dtype, body);
}

template <class T>
Operand<T> tensorOperand(const Tensor& x) {
  return {x.data<const T>(), Compute<T>()};
}
// Saturates where the type is an integer: infinite bounds mean none.
template <class T>
Operand<T> numberOperand(double value) {
  return {nullptr, convertElement<Compute<T>>(value)};
}

template <class T>
void launchBinary(const Runtime& runtime, BinaryOp op, T* y, int64_t n, const BroadcastPlan<2>& plan,
                  const Operand<T>& a, const Operand<T>& b) {
  dispatchBinary(op, [&]<BinaryOp kOp>() {
    if constexpr (std::is_floating_point_v<Compute<T>> || (kOp != BinaryOp::Div && kOp != BinaryOp::Pow)) {
      map(runtime, y, n, plan, Binary<kOp>{}, a, b);
    }
  });
}

// Which outcomes make the comparison true: one kernel for all six.
struct Compare {
  bool whenLess, whenEqual, whenGreater, whenUnordered;

  explicit Compare(CompareOp op)
      : whenLess(op == CompareOp::Less || op == CompareOp::LessEqual || op == CompareOp::NotEqual),
        whenEqual(op == CompareOp::Equal || op == CompareOp::LessEqual || op == CompareOp::GreaterEqual),
        whenGreater(op == CompareOp::Greater || op == CompareOp::GreaterEqual || op == CompareOp::NotEqual),
        whenUnordered(op == CompareOp::NotEqual) {}

  template <class A, class B>
  __device__ __forceinline__ bool operator()(A a, B b) const {
    return a < b ? whenLess : a == b ? whenEqual : a > b ? whenGreater : whenUnordered;
  }
};

template <class Number>
struct CompareTo {
  Compare compare;
  Number number;
  template <class A>
  __device__ __forceinline__ bool operator()(A a) const {
    return compare(static_cast<Number>(a), number);
  }
};

struct Select {
  template <class T>
  __device__ __forceinline__ T operator()(uint8_t condition, T a, T b) const {
    return condition ? a : b;
  }
};

template <class C>
struct Clamp {
  C low, high;
  __device__ __forceinline__ C operator()(C x) const { return clampTo(Lane<C>(), x, low, high); }
};

}  // namespace

void CudaBackend::binary(BinaryOp op, const Tensor& out, const Tensor& a, const Tensor& b) {
  const BroadcastPlan<2> plan(out.shape(), {a, b});
  dispatchNumeric(out.dtype(), [&]<class T>() {
    launchBinary<T>(runtime_, op, out.data<T>(), out.numel(), plan, tensorOperand<T>(a), tensorOperand<T>(b));
  });
}

void CudaBackend::binaryScalar(BinaryOp op, const Tensor& out, const Tensor& x, double value, bool scalarFirst) {
  const Tensor none;
  const BroadcastPlan<2> plan(out.shape(), {scalarFirst ? none : x, scalarFirst ? x : none});
  dispatchNumeric(out.dtype(), [&]<class T>() {
    const Operand<T> tensor = tensorOperand<T>(x), number = numberOperand<T>(value);
    launchBinary<T>(runtime_, op, out.data<T>(), out.numel(), plan, scalarFirst ? number : tensor,
                    scalarFirst ? tensor : number);
  });
}

void CudaBackend::compare(CompareOp op, const Tensor& out, const Tensor& a, const Tensor& b) {
  const BroadcastPlan<2> plan(out.shape(), {a, b});
  dispatchAll(a.dtype(), [&]<class T>() {
    map(runtime_, out.data<uint8_t>(), out.numel(), plan, Compare(op), tensorOperand<T>(a), tensorOperand<T>(b));
  });
}

void CudaBackend::compareScalar(CompareOp op, const Tensor& out, const Tensor& x, double value) {
  dispatchAll(x.dtype(), [&]<class T>() {
    // Integers as doubles: the number need not be an integer.
    using Number = std::conditional_t<std::is_integral_v<T>, double, Compute<T>>;
    mapFlat(runtime_, out.data<uint8_t>(), out.numel(), CompareTo<Number>{Compare(op), static_cast<Number>(value)},
            x.data<const T>());
  });
}

void CudaBackend::where(const Tensor& out, const Tensor& condition, const Tensor& a, const Tensor& b, double aValue,
                        double bValue) {
  const BroadcastPlan<3> plan(out.shape(), {condition, a, b});
  const uint64_t aBits = elementBits(out.dtype(), aValue), bBits = elementBits(out.dtype(), bValue);
  dispatchBits(out.dtype(), [&]<class T>() {
    map(runtime_, out.data<T>(), out.numel(), plan, Select{}, tensorOperand<uint8_t>(condition),
        Operand<T>{a.data<const T>(), static_cast<T>(aBits)}, Operand<T>{b.data<const T>(), static_cast<T>(bBits)});
  });
}

void CudaBackend::clamp(const Tensor& out, const Tensor& x, double low, double high) {
  dispatchNumeric(out.dtype(), [&]<class T>() {
    using C = Compute<T>;
    mapFlat(runtime_, out.data<T>(), out.numel(), Clamp<C>{convertElement<C>(low), convertElement<C>(high)},
            x.data<const T>());
  });
}

}  // namespace flowmap::cuda
