// Matrix products and linear layers, with their tangents and gradients, on top of gemm.
#include <algorithm>
#include <exception>
#include <memory>
#include <utility>
#include <vector>

#include "core/dispatch.h"
#include "cpu/backend.h"
#include "cpu/broadcast_offset.h"
#include "cpu/convert.h"
#include "cpu/gemm.h"
#include "cpu/gemm_packed.h"
#include "cpu/kept_error.h"
#include "cpu/matmul_bfloat16.h"
#include "cpu/onednn_product.h"
#include "cpu/parallel.h"
#include "cpu/product_blocks.h"
#include "cpu/row_sums.h"

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

// result [rows, n] = offset (a row, or null: zeros) + the sum of left [rows, k] right, whose order says
// `transposeRight`.
template <class C>
struct RowProducts {
  C* result;
  const C* offset;
  std::vector<std::pair<const C*, const C*>> products;
};

// One range of rows of all of them. The offset goes in while the rows are about to be read anyway.
template <class C>
void rowProducts(const RowProducts<C>& job, int64_t begin, int64_t end, int64_t n, int64_t k, bool transposeRight) {
  C* result = job.result + begin * n;
  const int64_t rows = end - begin;
  bool written = false;
  if (job.offset) {
    for (int64_t r = 0; r < rows; ++r) std::copy_n(job.offset, n, result + r * n);
    written = true;
  }
  for (const auto& [left, right] : job.products) {
    gemm(false, transposeRight, rows, n, k, left + begin * k, right, written ? C(1) : C(0), result);
    written = true;
  }
  if (!written) std::fill_n(result, rows * n, C(0));
}

GemmSum sumOf(float* result, const float* offset, const std::vector<std::pair<const float*, const float*>>& products) {
  GemmSum sum{result, offset};
  for (const auto& [left, right] : products) sum.term[sum.terms++] = {left, right};
  return sum;
}

// gemm packs all of a transposed `right` before it multiplies, and keeps it nowhere: for few rows that takes longer
// than the products do, and oneDNN's matmul, which packs what it is about to use, takes half the time. From 192 rows on
// they are even.
bool packsInPassing(int64_t rows, int64_t n, int64_t k, bool transposeRight) {
  return transposeRight && rows >= 16 && readsOnce(rows, n, k);
}

void fewRowProducts(Device& device, const RowProducts<float>& job, int64_t rows, int64_t n, int64_t k) {
  OneDnnProduct product{};
  product.transposeB = true;
  product.m = rows, product.n = n, product.k = k;
  product.in = product.out = DType::Float32;
  product.c = job.result;
  for (const auto& [left, right] : job.products) {
    product.a = left, product.b = right;
    product.offset = product.accumulate ? nullptr : job.offset;
    oneDnnProduct(device, product);
    product.accumulate = true;
  }
}

// Value and tangent, or the gradients by both, as one parallel region in which every thread has rows of its own: waking
// the team once, and offsets written where they are used, is worth a third of the time of a small layer.
template <class C>
void rowProducts(Device& device, const std::vector<RowProducts<C>>& jobs, int64_t rows, int64_t n, int64_t k,
                 bool transposeRight) {
  constexpr int64_t kLeastRows = 64;  // of a thread: each packs all of `right` for itself
  const int64_t all = rows * static_cast<int64_t>(jobs.size());
  const bool split = std::is_same_v<C, float> && all >= kLeastRows * teamSize() && all * n * k >= kLeastProduct;
  if constexpr (std::is_same_v<C, float>) {
    if (packsInPassing(rows, n, k, transposeRight)) {
      for (const RowProducts<C>& job : jobs) {
        if (job.products.empty()) {
          rowProducts(job, 0, rows, n, k, transposeRight);
        } else {
          fewRowProducts(device, job, rows, n, k);
        }
      }
      return;
    }
  }
  if constexpr (std::is_same_v<C, float>) {
    const GemmShape shape{false, transposeRight, rows, n, k};
    if (packingPays(shape) && std::ranges::none_of(jobs, [](const auto& job) { return job.products.empty(); })) {
      std::vector<GemmSum> sums;
      for (const RowProducts<float>& job : jobs) sums.push_back(sumOf(job.result, job.offset, job.products));
      return gemmPacked(shape, sums.data(), static_cast<int64_t>(sums.size()));
    }
  }
  const auto range = [&](int64_t begin, int64_t end) {
    for (size_t job = 0; job < jobs.size(); ++job) {
      const int64_t first = static_cast<int64_t>(job) * rows;
      const int64_t from = std::clamp<int64_t>(begin - first, 0, rows), to = std::clamp<int64_t>(end - first, 0, rows);
      if (from < to) rowProducts(jobs[job], from, to, n, k, transposeRight);
    }
  };
  if (!split) return range(0, all);
  KeptError error;
  // A range for each thread, as every range packs all of `right`.
  parallelFor(
      all, true, 16, [&](int64_t begin, int64_t end) { error.keep([&] { range(begin, end); }); }, 1);
  error.rethrow();
}

// result [m, n] = the sum of leftᵀ right, which are [rows, m] and [rows, n].
template <class C>
void columnProducts(C* result, const std::vector<std::pair<const C*, const C*>>& products, int64_t m, int64_t n,
                    int64_t rows) {
  if (products.empty()) {
    std::fill_n(result, m * n, C(0));
    return;
  }
  if constexpr (std::is_same_v<C, float>) {
    const GemmShape shape{true, false, m, n, rows};
    if (packingPays(shape)) {
      const GemmSum sum = sumOf(result, nullptr, products);
      return gemmPacked(shape, &sum, 1);
    }
  }
  C beta = 0;
  for (const auto& [left, right] : products) {
    gemm(true, false, m, n, rows, left, right, beta, result);
    beta = 1;
  }
}

bool asBFloat16(const Tensor& x) { return x.dtype() == DType::BFloat16 && multipliesBFloat16(); }

int64_t rowsOf(const Tensor& x) { return x.shape().product(0, x.rank() - 1); }

}  // namespace

void CpuBackend::matmul(const Tensor& out, const Tensor& a, const Tensor& b, bool transposeA, bool transposeB) {
  const Shape& shape = out.shape();
  const int64_t m = shape[-2], n = shape[-1], k = a.shape()[transposeA ? -2 : -1];
  const int64_t batches = shape.product(0, out.rank() - 2);
  if (out.numel() == 0) return;
  if (asBFloat16(out)) return matmulBFloat16(out, a, b, transposeA, transposeB);
  dispatchFloating(out.dtype(), [&]<class T>() {
    const Operand<T> left(a), right(b);
    const Result<T> result(out);
    // One b for all of a: one product with more rows.
    if (!transposeA && b.shape().product(0, b.rank() - 2) == 1 && a.shape().product(0, a.rank() - 2) == batches) {
      if constexpr (std::is_same_v<T, float>) {
        if (packsInPassing(batches * m, n, k, transposeB)) {
          return fewRowProducts(out.device(), {result.get(), nullptr, {{left.get(), right.get()}}}, batches * m, n, k);
        }
      }
      gemm(false, transposeB, batches * m, n, k, left.get(), right.get(), Compute<T>(0), result.get());
      return;
    }
    const auto one = [&](int64_t batch) {
      gemm(transposeA, transposeB, m, n, k, left.get() + broadcastOffset(shape, a.shape(), batch) * m * k,
           right.get() + broadcastOffset(shape, b.shape(), batch) * k * n, Compute<T>(0), result.get() + batch * m * n);
    };
    // Many small products: a thread each.
    if (batches >= 2 * teamSize() && m * n * k < int64_t{1} << 21) {
      KeptError error;
      parallelFor(batches, true, 1, [&](int64_t begin, int64_t end) {
        error.keep([&] {
          for (int64_t batch = begin; batch < end; ++batch) one(batch);
        });
      });
      error.rethrow();
    } else {
      for (int64_t batch = 0; batch < batches; ++batch) one(batch);
    }
  });
}

void CpuBackend::linearJvp(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& weight, const Tensor& bias,
                           const Tensor& tx, const Tensor& tweight, const Tensor& tbias) {
  if (asBFloat16(x)) return linearJvpBFloat16(y, ty, x, weight, bias, tx, tweight, tbias);
  const int64_t rows = rowsOf(x), in = weight.shape()[1], out = weight.shape()[0];
  dispatchFloating(x.dtype(), [&]<class T>() {
    using C = Compute<T>;
    const Operand<T> xs(x), w(weight), b(bias), txs(tx), tw(tweight), tb(tbias);
    const Result<T> ys(y), tys(ty);
    std::vector<RowProducts<C>> jobs{{ys.get(), b.get(), {{xs.get(), w.get()}}}};
    if (tys) {
      jobs.push_back({tys.get(), tb.get(), {}});
      if (txs) jobs[1].products.emplace_back(txs.get(), w.get());
      if (tw) jobs[1].products.emplace_back(xs.get(), tw.get());
    }
    rowProducts(x.device(), jobs, rows, out, in, true);
  });
}

void CpuBackend::linearJvpVjp(const Tensor& gx, const Tensor& gweight, const Tensor& gbias, const Tensor& gtx,
                              const Tensor& gtweight, const Tensor& gtbias, const Tensor& x, const Tensor& weight,
                              const Tensor& tx, const Tensor& tweight, const Tensor& g, const Tensor& h) {
  if (asBFloat16(x)) {
    return linearJvpVjpBFloat16(gx, gweight, gbias, gtx, gtweight, gtbias, x, weight, tx, tweight, g, h);
  }
  const int64_t rows = rowsOf(x), in = weight.shape()[1], out = weight.shape()[0];
  dispatchFloating(x.dtype(), [&]<class T>() {
    using C = Compute<T>;
    const Operand<T> xs(x), w(weight), txs(tx), tw(tweight), gs(g), hs(h);
    // Sum of the products leftᵀ right whose factors are there, [out, in]; zeros where none is.
    const auto sum = [&](const Tensor& target, auto... products) {
      if (!target) return;
      const Result<T> result(target);
      std::vector<std::pair<const C*, const C*>> there;
      const auto add = [&](const Operand<T>& left, const Operand<T>& right) {
        if (left && right) there.emplace_back(left.get(), right.get());
      };
      (add(*products.first, *products.second), ...);
      columnProducts(result.get(), there, out, in, rows);
    };
    const auto columns = [&](const Tensor& target, const Operand<T>& cotangent) {
      if (!target) return;
      const Result<T> result(target);
      if (cotangent)
        sumRows(result.get(), cotangent.get(), rows, out);
      else
        std::fill_n(result.get(), out, C(0));
    };
    const Result<T> gxs(gx), gtxs(gtx);
    std::vector<RowProducts<C>> jobs;
    if (gxs) {
      jobs.push_back({gxs.get(), nullptr, {}});
      if (gs) jobs.back().products.emplace_back(gs.get(), w.get());
      if (hs && tw) jobs.back().products.emplace_back(hs.get(), tw.get());
    }
    if (gtxs) {
      jobs.push_back({gtxs.get(), nullptr, {}});
      if (hs) jobs.back().products.emplace_back(hs.get(), w.get());
    }
    rowProducts(x.device(), jobs, rows, in, out, false);
    sum(gweight, std::pair{&gs, &xs}, std::pair{&hs, &txs});
    sum(gtweight, std::pair{&hs, &xs});
    columns(gbias, gs);
    columns(gtbias, hs);
  });
}

}  // namespace flowmap::cpu
