// Matrix products and linear layers, with their tangents and gradients, on top of gemm.
#include <omp.h>

#include <memory>

#include "core/dispatch.h"
#include "cpu/backend.h"
#include "cpu/convert.h"
#include "cpu/gemm.h"
#include "cpu/parallel.h"

namespace flowmap::cpu {
namespace {

// A tensor's values in the type arithmetic is done in: itself, or a converted copy of a 16-bit tensor.
template <class T>
class Operand {
 public:
  using C = Compute<T>;
  explicit Operand(const Tensor& x) {
    if (!x) return;
    if constexpr (std::is_same_v<T, C>) {
      data_ = x.data<T>();
    } else {
      copy_.reset(new C[x.numel()]);
      parallelFor(x.numel(), x.numel() >= kParallelElements, 64, [&](int64_t begin, int64_t end) {
        toFloatRun(copy_.get() + begin, x.data<T>() + begin, end - begin);
      });
      data_ = copy_.get();
    }
  }
  const C* get() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  std::unique_ptr<C[]> copy_;
  const C* data_ = nullptr;
};

// Where a result is computed: in the tensor itself, or beside a 16-bit tensor and rounded into it at the end.
template <class T>
class Result {
 public:
  using C = Compute<T>;
  explicit Result(const Tensor& y) : y_(y) {
    if (!y) return;
    if constexpr (std::is_same_v<T, C>) {
      data_ = y.data<T>();
    } else {
      wide_.reset(new C[y.numel()]);
      data_ = wide_.get();
    }
  }
  ~Result() {
    if constexpr (!std::is_same_v<T, C>) {
      if (!y_) return;
      parallelFor(y_.numel(), y_.numel() >= kParallelElements, 64, [&](int64_t begin, int64_t end) {
        fromFloatRun(y_.data<T>() + begin, wide_.get() + begin, end - begin);
      });
    }
  }
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  C* get() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  Tensor y_;
  std::unique_ptr<C[]> wide_;
  C* data_ = nullptr;
};

template <class C>
void fillRows(C* y, const C* row, int64_t rows, int64_t columns) {
  const int64_t align = std::max<int64_t>(1, 1024 / std::max<int64_t>(columns, 1));
  parallelFor(rows, rows * columns >= kParallelElements, align, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) std::copy_n(row, columns, y + r * columns);
  });
}

// Column sums in chunks of rows that do not depend on the number of threads; chunks are added in order.
template <class C>
void sumRows(C* out, const C* x, int64_t rows, int64_t columns) {
  constexpr int64_t kChunk = 64;
  const int64_t chunks = (rows + kChunk - 1) / kChunk;
  std::unique_ptr<C[]> partial(new C[static_cast<size_t>(std::max<int64_t>(chunks, 1) * columns)]());
  parallelFor(chunks, rows * columns >= kParallelElements, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      C* sum = partial.get() + chunk * columns;
      for (int64_t r = chunk * kChunk; r < std::min(rows, (chunk + 1) * kChunk); ++r) {
        for (int64_t c = 0; c < columns; ++c) sum[c] += x[r * columns + c];
      }
    }
  });
  // Pairwise over chunks: the error grows with the logarithm of their number.
  for (int64_t stride = 1; stride < chunks; stride *= 2) {
    for (int64_t chunk = 0; chunk + stride < chunks; chunk += 2 * stride) {
      C* into = partial.get() + chunk * columns;
      const C* from = partial.get() + (chunk + stride) * columns;
      for (int64_t c = 0; c < columns; ++c) into[c] += from[c];
    }
  }
  std::copy_n(partial.get(), columns, out);
}

int64_t rowsOf(const Tensor& x) { return x.shape().product(0, x.rank() - 1); }

}  // namespace

void CpuBackend::matmul(const Tensor& out, const Tensor& a, const Tensor& b, bool transposeA, bool transposeB) {
  const Shape& shape = out.shape();
  const int64_t m = shape[-2], n = shape[-1], k = a.shape()[transposeA ? -2 : -1];
  const int batchRank = out.rank() - 2;
  const int64_t batches = shape.product(0, batchRank);
  if (out.numel() == 0) return;
  dispatchFloating(out.dtype(), [&]<class T>() {
    const Operand<T> left(a), right(b);
    const Result<T> result(out);
    // One b for all of a: one product with more rows.
    if (!transposeA && b.shape().product(0, b.rank() - 2) == 1 && a.shape().product(0, a.rank() - 2) == batches) {
      gemm(false, transposeB, batches * m, n, k, left.get(), right.get(), Compute<T>(0), result.get());
      return;
    }
    const auto offsetOf = [&](const Tensor& x, int64_t batch) {
      int64_t offset = 0, stride = 1;
      for (int axis = batchRank - 1; axis >= 0; --axis) {
        const int64_t index = batch % shape[axis];
        batch /= shape[axis];
        const int at = axis - (out.rank() - x.rank());
        if (at < 0) continue;
        if (x.shape()[at] != 1) offset += index * stride;
        stride *= x.shape()[at];
      }
      return offset;
    };
    const auto one = [&](int64_t batch) {
      gemm(transposeA, transposeB, m, n, k, left.get() + offsetOf(a, batch) * m * k,
           right.get() + offsetOf(b, batch) * k * n, Compute<T>(0), result.get() + batch * m * n);
    };
    // Many small products: a thread each. Errors of oneDNN cannot leave a parallel region, so they are kept.
    if (batches >= 2 * omp_get_max_threads() && m * n * k < int64_t{1} << 21) {
      std::exception_ptr error;
#pragma omp parallel for schedule(static)
      for (int64_t batch = 0; batch < batches; ++batch) {
        try {
          one(batch);
        } catch (...) {
#pragma omp critical(flowmap_matmul_error)
          error = std::current_exception();
        }
      }
      if (error) std::rethrow_exception(error);
    } else {
      for (int64_t batch = 0; batch < batches; ++batch) one(batch);
    }
  });
}

void CpuBackend::linearJvp(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& weight, const Tensor& bias,
                           const Tensor& tx, const Tensor& tweight, const Tensor& tbias) {
  const int64_t rows = rowsOf(x), in = weight.shape()[1], out = weight.shape()[0];
  dispatchFloating(x.dtype(), [&]<class T>() {
    using C = Compute<T>;
    const Operand<T> xs(x), w(weight), b(bias), txs(tx), tw(tweight), tb(tbias);
    const auto affine = [&](const Result<T>& result, const Operand<T>& offset, auto... products) {
      bool written = false;
      if (offset) {
        fillRows(result.get(), offset.get(), rows, out);
        written = true;
      }
      const auto add = [&](const Operand<T>& left, const Operand<T>& right) {
        if (!left || !right) return;
        gemm(false, true, rows, out, in, left.get(), right.get(), written ? C(1) : C(0), result.get());
        written = true;
      };
      (add(*products.first, *products.second), ...);
    };
    const Result<T> ys(y), tys(ty);
    affine(ys, b, std::pair{&xs, &w});
    if (tys) affine(tys, tb, std::pair{&txs, &w}, std::pair{&xs, &tw});
  });
}

void CpuBackend::linearJvpVjp(const Tensor& gx, const Tensor& gweight, const Tensor& gbias, const Tensor& gtx,
                              const Tensor& gtweight, const Tensor& gtbias, const Tensor& x, const Tensor& weight,
                              const Tensor& tx, const Tensor& tweight, const Tensor& g, const Tensor& h) {
  const int64_t rows = rowsOf(x), in = weight.shape()[1], out = weight.shape()[0];
  dispatchFloating(x.dtype(), [&]<class T>() {
    using C = Compute<T>;
    const Operand<T> xs(x), w(weight), txs(tx), tw(tweight), gs(g), hs(h);
    // Sum of the products whose factors are there; zeros where none is.
    const auto sum = [&](const Tensor& target, bool transposeLeft, int64_t m, int64_t n, int64_t k, auto... products) {
      if (!target) return;
      const Result<T> result(target);
      bool written = false;
      const auto add = [&](const Operand<T>& left, const Operand<T>& right) {
        if (!left || !right) return;
        gemm(transposeLeft, false, m, n, k, left.get(), right.get(), written ? C(1) : C(0), result.get());
        written = true;
      };
      (add(*products.first, *products.second), ...);
      if (!written) std::fill_n(result.get(), m * n, C(0));
    };
    const auto columns = [&](const Tensor& target, const Operand<T>& cotangent) {
      if (!target) return;
      const Result<T> result(target);
      if (cotangent)
        sumRows(result.get(), cotangent.get(), rows, out);
      else
        std::fill_n(result.get(), out, C(0));
    };
    sum(gx, false, rows, in, out, std::pair{&gs, &w}, std::pair{&hs, &tw});
    sum(gtx, false, rows, in, out, std::pair{&hs, &w});
    sum(gweight, true, out, in, rows, std::pair{&gs, &xs}, std::pair{&hs, &txs});
    sum(gtweight, true, out, in, rows, std::pair{&hs, &xs});
    columns(gbias, gs);
    columns(gtbias, hs);
  });
}

}  // namespace flowmap::cpu
