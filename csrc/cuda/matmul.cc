// Matrix products and linear layers, with their tangents and gradients, by cuBLASLt. A sum of two products is added up
// in the output; for 16-bit types in a float beside it, so that it is rounded once.
#include <algorithm>
#include <array>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <utility>
#include <vector>

#include "cuda/backend.h"

namespace flowmap::cuda {
namespace {

bool isNarrow(DType dtype) { return dtype == DType::BFloat16 || dtype == DType::Float16; }

Tensor scratch(Device& device, const Shape& shape, DType dtype) {
  Tensor made = Tensor::empty(device, shape, dtype);
  made.storage()->materialize();
  return made;
}

// The leading axes of a product, those that can be walked as one merged; strides in elements, 0 where broadcast.
struct BatchAxes {
  int rank = 0;
  std::array<int64_t, kMaxRank> sizes{}, a{}, b{}, out{};

  BatchAxes(const Shape& shape, const Shape& aShape, const Shape& bShape) {
    const int all = shape.rank() - 2;
    const auto stride = [&](const Shape& x, int axis) {
      const int at = axis - (shape.rank() - x.rank());
      return at < 0 || x[at] == 1 ? int64_t{0} : x.product(at + 1, x.rank());
    };
    for (int axis = 0; axis < all; ++axis) {
      if (shape[axis] == 1) continue;
      push(shape[axis], stride(aShape, axis), stride(bShape, axis), shape.product(axis + 1, shape.rank()));
    }
  }

  int longest() const {
    int found = 0;
    for (int axis = 1; axis < rank; ++axis) {
      if (sizes[axis] > sizes[found]) found = axis;
    }
    return found;
  }

 private:
  void push(int64_t size, int64_t strideA, int64_t strideB, int64_t strideOut) {
    const int last = rank - 1;
    if (rank > 0 && a[last] == size * strideA && b[last] == size * strideB) {
      sizes[last] *= size;
      a[last] = strideA, b[last] = strideB, out[last] = strideOut;
      return;
    }
    sizes[rank] = size;
    a[rank] = strideA, b[rank] = strideB, out[rank] = strideOut;
    ++rank;
  }
};

const std::byte* advance(const Tensor& x, int64_t elements) {
  return x.data<std::byte>() + elements * static_cast<int64_t>(itemSize(x.dtype()));
}

int64_t rowsOf(const Tensor& x) { return x.shape().product(0, x.rank() - 1); }

}  // namespace

// out [rows, n]: every row is the bias.
void CudaBackend::fillRows(const Tensor& out, const Tensor& bias, int64_t rows) {
  const int64_t n = bias.numel();
  copyStrided(out, contiguousView({rows, n}), bias, StridedView{0, {0, 1}}, {rows, n});
}

void CudaBackend::sumProducts(Gemm gemm, const Tensor& out, const Tensor& bias,
                              std::initializer_list<std::pair<Tensor, Tensor>> products) {
  if (!out || out.numel() == 0) return;
  std::vector<std::pair<Tensor, Tensor>> present;
  for (const auto& product : products) {
    if (product.first && product.second && gemm.k > 0) present.push_back(product);
  }
  if (present.empty()) return bias ? fillRows(out, bias, gemm.m) : fill(out, 0);
  Device& device = out.device();
  gemm.type = out.dtype();
  const bool wide = isNarrow(out.dtype()) && present.size() > 1;
  const Tensor sum = wide ? scratch(device, out.shape(), DType::Float32) : out;
  Tensor first = bias;
  if (wide && bias) cast(first = scratch(device, bias.shape(), DType::Float32), bias);
  gemm.outType = sum.dtype();
  gemm.tf32 = tf32_ && gemm.type == DType::Float32;
  for (const auto& [a, b] : present) {
    const GemmOperands operands{a.data(), b.data(), first.data(), sum.data()};
    if (!gemms_.run(device, gemm, operands)) {
      // No algorithm adds a bias at this shape: it goes first, and the product is added to it.
      fillRows(sum, first, gemm.m);
      gemm.accumulate = true;
      gemms_.run(device, gemm, {a.data(), b.data(), nullptr, sum.data()});
    }
    first = {};
    gemm.accumulate = true;
  }
  if (wide) cast(out, sum);
}

void CudaBackend::allowTf32(bool allowed) { tf32_ = allowed; }

void CudaBackend::matmul(const Tensor& out, const Tensor& a, const Tensor& b, bool transposeA, bool transposeB) {
  if (out.numel() == 0) return;
  const Shape& shape = out.shape();
  Gemm gemm;
  gemm.m = shape[-2], gemm.n = shape[-1], gemm.k = a.shape()[transposeA ? -2 : -1];
  gemm.transposeA = transposeA, gemm.transposeB = transposeB;
  if (gemm.k == 0) return fill(out, 0);
  gemm.type = gemm.outType = out.dtype();
  gemm.tf32 = tf32_ && gemm.type == DType::Float32;
  BatchAxes axes(shape, a.shape(), b.shape());
  // One b for neighbouring matrices of a: one product with more rows, as many as cuBLAS counts.
  const int inner = axes.rank - 1;
  const bool oneB = inner >= 0 && !transposeA && axes.b[inner] == 0 && axes.a[inner] == gemm.m * gemm.k;
  if (oneB && axes.sizes[inner] <= std::numeric_limits<int32_t>::max() / gemm.m) {
    gemm.m *= axes.sizes[inner];
    --axes.rank;
  }
  int64_t calls = 1;
  if (axes.rank > 0) {
    const int last = axes.rank - 1, batch = axes.longest();
    std::swap(axes.sizes[batch], axes.sizes[last]);
    std::swap(axes.a[batch], axes.a[last]);
    std::swap(axes.b[batch], axes.b[last]);
    std::swap(axes.out[batch], axes.out[last]);
    gemm.strideA = axes.a[last], gemm.strideB = axes.b[last], gemm.strideOut = axes.out[last];
    for (int axis = 0; axis < last; ++axis) calls *= axes.sizes[axis];
  }
  const int64_t batches = axes.rank > 0 ? axes.sizes[axes.rank - 1] : 1;
  constexpr int64_t kMostAtOnce = 65535;  // what one axis of a grid can hold
  for (int64_t call = 0; call < calls; ++call) {
    int64_t rest = call, atA = 0, atB = 0, atOut = 0;
    for (int axis = axes.rank - 2; axis >= 0; --axis) {
      const int64_t index = rest % axes.sizes[axis];
      rest /= axes.sizes[axis];
      atA += index * axes.a[axis], atB += index * axes.b[axis], atOut += index * axes.out[axis];
    }
    for (int64_t done = 0; done < batches; done += kMostAtOnce) {
      gemm.batches = std::min(kMostAtOnce, batches - done);
      gemms_.run(out.device(), gemm,
                 {advance(a, atA + done * gemm.strideA), advance(b, atB + done * gemm.strideB), nullptr,
                  const_cast<std::byte*>(advance(out, atOut + done * gemm.strideOut))});
    }
  }
}

void CudaBackend::linearJvp(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& weight,
                            const Tensor& bias, const Tensor& tx, const Tensor& tweight, const Tensor& tbias) {
  Gemm gemm;
  gemm.m = rowsOf(x), gemm.n = weight.shape()[0], gemm.k = weight.shape()[1];
  gemm.transposeB = true;
  sumProducts(gemm, y, bias, {{x, weight}});
  sumProducts(gemm, ty, tbias, {{tx, weight}, {x, tweight}});
}

void CudaBackend::linearJvpVjp(const Tensor& gx, const Tensor& gweight, const Tensor& gbias, const Tensor& gtx,
                               const Tensor& gtweight, const Tensor& gtbias, const Tensor& x, const Tensor& weight,
                               const Tensor& tx, const Tensor& tweight, const Tensor& g, const Tensor& h) {
  const int64_t rows = rowsOf(x), in = weight.shape()[1], out = weight.shape()[0];
  Gemm back;
  back.m = rows, back.n = in, back.k = out;
  sumProducts(back, gx, {}, {{g, weight}, {h, tweight}});
  sumProducts(back, gtx, {}, {{h, weight}});
  Gemm outer;
  outer.m = out, outer.n = in, outer.k = rows;
  outer.transposeA = true;
  sumProducts(outer, gweight, {}, {{g, x}, {h, tx}});
  sumProducts(outer, gtweight, {}, {{h, x}});
  // Sums over rows have a kernel of their own: in double, in a fixed order, which an epilogue would not promise.
  const auto columns = [&](const Tensor& target, const Tensor& cotangent) {
    if (!target || target.numel() == 0) return;
    if (!cotangent || rows == 0) return fill(target, 0);
    reduce(ReduceOp::Sum, target, cotangent.withShape({rows, out}), {true});
  };
  columns(gbias, g);
  columns(gtbias, h);
}

}  // namespace flowmap::cuda
