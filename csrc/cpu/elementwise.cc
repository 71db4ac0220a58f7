// Elementwise kernels: broadcasting and storage types here, arithmetic in elementwise_runs.
#include <limits>

#include "core/dispatch.h"
#include "cpu/backend.h"
#include "cpu/blocks.h"
#include "cpu/elementwise_runs.h"

namespace flowmap::cpu {
namespace {

template <class Body>
void dispatchNumeric(DType dtype, Body body) {
  if (dtype == DType::Int32) return body.template operator()<int32_t>();
  dispatchFloating(dtype, body);
}

int64_t parallelFrom(UnaryOp op) {
  return op >= UnaryOp::Exp && op <= UnaryOp::Sigmoid ? kParallelTranscendental : kParallelElements;
}
int64_t parallelFrom(BinaryOp op) { return op == BinaryOp::Pow ? kParallelTranscendental : kParallelElements; }

// Saturates where C is an integer: infinite bounds mean none.
template <class C>
C toScalar(double value) {
  if constexpr (std::is_integral_v<C>) {
    return static_cast<C>(std::clamp<double>(value, std::numeric_limits<C>::min(), std::numeric_limits<C>::max()));
  } else {
    return static_cast<C>(value);
  }
}

}  // namespace

void CpuBackend::unary(UnaryOp op, const Tensor& out, const Tensor& x) {
  const BroadcastPlan<1> plan(out.shape(), {x});
  if (op == UnaryOp::LogicalNot) {
    return mapBlocks(
        plan, out.data<uint8_t>(), out.numel(), kParallelElements,
        [](uint8_t* y, int64_t n, Run<uint8_t> run) { logicalNotRun(y, run.data, n); }, x.data<const uint8_t>());
  }
  dispatchNumeric(x.dtype(), [&]<class T>() {
    mapBlocks(
        plan, out.data<T>(), out.numel(), parallelFrom(op),
        [op](Compute<T>* y, int64_t n, Run<T> run) { unaryRun(op, y, run.data, n); }, x.data<const T>());
  });
}

void CpuBackend::binary(BinaryOp op, const Tensor& out, const Tensor& a, const Tensor& b) {
  const BroadcastPlan<2> plan(out.shape(), {a, b});
  dispatchNumeric(out.dtype(), [&]<class T>() {
    mapBlocks(
        plan, out.data<T>(), out.numel(), parallelFrom(op),
        [op](Compute<T>* y, int64_t n, Run<T> u, Run<T> v) { binaryRun(op, y, u.data, u.step, v.data, v.step, n); },
        a.data<const T>(), b.data<const T>());
  });
}

void CpuBackend::binaryScalar(BinaryOp op, const Tensor& out, const Tensor& x, double value, bool scalarFirst) {
  const BroadcastPlan<1> plan(out.shape(), {x});
  dispatchNumeric(out.dtype(), [&]<class T>() {
    const Compute<T> scalar = toScalar<Compute<T>>(value);
    mapBlocks(
        plan, out.data<T>(), out.numel(), parallelFrom(op),
        [&](Compute<T>* y, int64_t n, Run<T> run) {
          if (scalarFirst)
            binaryRun(op, y, &scalar, 0, run.data, run.step, n);
          else
            binaryRun(op, y, run.data, run.step, &scalar, 0, n);
        },
        x.data<const T>());
  });
}

void CpuBackend::compare(CompareOp op, const Tensor& out, const Tensor& a, const Tensor& b) {
  const BroadcastPlan<2> plan(out.shape(), {a, b});
  dispatchAll(a.dtype(), [&]<class T>() {
    mapBlocks(
        plan, out.data<uint8_t>(), out.numel(), kParallelElements,
        [op](uint8_t* y, int64_t n, Run<T> u, Run<T> v) { compareRun(op, y, u.data, u.step, v.data, v.step, n); },
        a.data<const T>(), b.data<const T>());
  });
}

void CpuBackend::compareScalar(CompareOp op, const Tensor& out, const Tensor& x, double value) {
  const BroadcastPlan<1> plan(out.shape(), {x});
  dispatchAll(x.dtype(), [&]<class T>() {
    mapBlocks(
        plan, out.data<uint8_t>(), out.numel(), kParallelElements,
        [&](uint8_t* y, int64_t n, Run<T> run) {
          if constexpr (std::is_integral_v<T>) {  // as doubles: the scalar need not be an integer
            double wide[kBlock];
            for (int64_t i = 0; i < n; i += kBlock) {
              const int64_t m = std::min(kBlock, n - i);
              convertRun(DType::Float64, wide, DTypeOf<T>::value, run.data + i * run.step, run.step ? m : 1);
              compareRun(op, y + i, wide, run.step, &value, 0, m);
            }
          } else {
            const Compute<T> scalar = static_cast<Compute<T>>(value);
            compareRun(op, y, run.data, run.step, &scalar, 0, n);
          }
        },
        x.data<const T>());
  });
}

void CpuBackend::where(const Tensor& out, const Tensor& condition, const Tensor& a, const Tensor& b, double aValue,
                       double bValue) {
  const BroadcastPlan<3> plan(out.shape(), {condition, a, b});
  dispatchBits(out.dtype(), [&]<class T>() {
    T scalars[2];
    convertRun(out.dtype(), &scalars[0], DType::Float64, &aValue, 1);
    convertRun(out.dtype(), &scalars[1], DType::Float64, &bValue, 1);
    mapBlocks(
        plan, out.data<T>(), out.numel(), kParallelElements,
        [](T* y, int64_t n, Run<uint8_t> c, Run<T> u, Run<T> v) {
          whereRun(y, c.data, c.step, u.data, u.step, v.data, v.step, n);
        },
        condition.data<const uint8_t>(), a ? a.data<const T>() : &scalars[0], b ? b.data<const T>() : &scalars[1]);
  });
}

void CpuBackend::clamp(const Tensor& out, const Tensor& x, double low, double high) {
  const BroadcastPlan<1> plan(out.shape(), {x});
  dispatchNumeric(out.dtype(), [&]<class T>() {
    using C = Compute<T>;
    mapBlocks(
        plan, out.data<T>(), out.numel(), kParallelElements,
        [&](C* y, int64_t n, Run<T> run) { clampRun(y, run.data, toScalar<C>(low), toScalar<C>(high), n); },
        x.data<const T>());
  });
}

void CpuBackend::cast(const Tensor& out, const Tensor& x) {
  const size_t toSize = itemSize(out.dtype()), fromSize = itemSize(x.dtype());
  const bool streamed = isStreamed(out);
  parallelFor(out.numel(), out.numel() >= kParallelElements, 64, [&](int64_t begin, int64_t end) {
    const auto convert = [&](char* to, int64_t at, int64_t n) {
      convertRun(out.dtype(), to, x.dtype(), x.data<const char>() + at * fromSize, n);
    };
    if (!streamed) return convert(out.data<char>() + begin * toSize, begin, end - begin);
    double leaving[kBlock];  // of any type
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = std::min(kBlock, end - at);
      convert(reinterpret_cast<char*>(leaving), at, n);
      streamRun(out.data<char>() + at * toSize, leaving, n * static_cast<int64_t>(toSize));
    }
    finishStreams();
  });
}

}  // namespace flowmap::cpu
