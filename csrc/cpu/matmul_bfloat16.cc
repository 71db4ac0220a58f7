#include "cpu/matmul_bfloat16.h"

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <vector>

#include "cpu/broadcast_offset.h"
#include "cpu/convert.h"
#include "cpu/onednn_product.h"
#include "cpu/row_sums.h"

namespace flowmap::cpu {
namespace {

struct Factors {
  const Tensor &left, &right;
};

// target [m, n] = offset (a row, or null: zeros) + the sum of op(left) op(right) over those of which both are there.
void sumOfProducts(const Tensor& target, const Tensor& offset, OneDnnProduct shape,
                   std::initializer_list<Factors> products) {
  if (!target || target.numel() == 0) return;
  std::vector<const Factors*> present;
  for (const Factors& factors : products) {
    if (factors.left && factors.right && shape.k > 0) present.push_back(&factors);
  }
  BFloat16* result = target.data<BFloat16>();
  const BFloat16* row = offset ? offset.data<BFloat16>() : nullptr;
  if (present.empty()) {
    if (!row) std::fill_n(result, target.numel(), BFloat16(0.0f));
    for (int64_t i = 0; row && i < shape.m; ++i) std::copy_n(row, shape.n, result + i * shape.n);
    return;
  }
  const bool direct = present.size() == 1;
  const Tensor wide = direct ? Tensor() : Tensor::empty(target.device(), target.shape(), DType::Float32);
  if (wide) wide.storage()->materialize();
  shape.in = DType::BFloat16;
  shape.out = direct ? DType::BFloat16 : DType::Float32;
  shape.c = direct ? static_cast<void*>(result) : wide.data<float>();
  for (const Factors* factors : present) {
    shape.a = factors->left.data<BFloat16>();
    shape.b = factors->right.data<BFloat16>();
    shape.accumulate = factors != present.front();
    shape.offset = shape.accumulate ? nullptr : row;
    oneDnnProduct(target.device(), shape);
  }
  if (!wide) return;
  parallelFor(wide.numel(), wide.numel() >= kParallelElements, 64, [&](int64_t begin, int64_t end) {
    fromFloatRun(result + begin, wide.data<float>() + begin, end - begin);
  });
}

void sumOfRows(const Tensor& target, const Tensor& x, int64_t rows) {
  if (!target) return;
  const int64_t columns = target.numel();
  std::unique_ptr<float[]> sums(new float[static_cast<size_t>(columns)]());
  if (x) sumRows(sums.get(), x.data<BFloat16>(), rows, columns);
  fromFloatRun(target.data<BFloat16>(), sums.get(), columns);
}

OneDnnProduct shapeOf(int64_t m, int64_t n, int64_t k, bool transposeA, bool transposeB) {
  OneDnnProduct shape{};
  shape.m = m, shape.n = n, shape.k = k;
  shape.transposeA = transposeA, shape.transposeB = transposeB;
  return shape;
}

int64_t rowsOf(const Tensor& x) { return x.shape().product(0, x.rank() - 1); }

}  // namespace

void matmulBFloat16(const Tensor& out, const Tensor& a, const Tensor& b, bool transposeA, bool transposeB) {
  if (out.numel() == 0) return;
  const int64_t batches = out.shape().product(0, out.rank() - 2);
  OneDnnProduct shape =
      shapeOf(out.shape()[-2], out.shape()[-1], a.shape()[transposeA ? -2 : -1], transposeA, transposeB);
  const int64_t batchesA = a.shape().product(0, a.rank() - 2), batchesB = b.shape().product(0, b.rank() - 2);
  const auto all = [&](int64_t count) { return count == batches || count == 1; };
  if (all(batchesA) && all(batchesB)) {
    if (!transposeA && batchesB == 1 && batchesA == batches) {
      shape.m *= batches;  // one b for all of a: one product with more rows
    } else {
      shape.batches = batches, shape.batchesA = batchesA, shape.batchesB = batchesB;
    }
    return sumOfProducts(out, Tensor(), shape, {{a, b}});
  }
  if (shape.k == 0) return sumOfProducts(out, Tensor(), shape, {});
  shape.in = shape.out = DType::BFloat16;
  for (int64_t batch = 0; batch < batches; ++batch) {
    shape.a = a.data<BFloat16>() + broadcastOffset(out.shape(), a.shape(), batch) * shape.m * shape.k;
    shape.b = b.data<BFloat16>() + broadcastOffset(out.shape(), b.shape(), batch) * shape.k * shape.n;
    shape.c = out.data<BFloat16>() + batch * shape.m * shape.n;
    oneDnnProduct(out.device(), shape);
  }
}

void linearJvpBFloat16(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& weight, const Tensor& bias,
                       const Tensor& tx, const Tensor& tweight, const Tensor& tbias) {
  const OneDnnProduct shape = shapeOf(rowsOf(x), weight.shape()[0], weight.shape()[1], false, true);
  sumOfProducts(y, bias, shape, {{x, weight}});
  sumOfProducts(ty, tbias, shape, {{tx, weight}, {x, tweight}});
}

void linearJvpVjpBFloat16(const Tensor& gx, const Tensor& gweight, const Tensor& gbias, const Tensor& gtx,
                          const Tensor& gtweight, const Tensor& gtbias, const Tensor& x, const Tensor& weight,
                          const Tensor& tx, const Tensor& tweight, const Tensor& g, const Tensor& h) {
  const int64_t rows = rowsOf(x), in = weight.shape()[1], out = weight.shape()[0];
  const OneDnnProduct ofInputs = shapeOf(rows, in, out, false, false), ofWeights = shapeOf(out, in, rows, true, false);
  sumOfProducts(gx, Tensor(), ofInputs, {{g, weight}, {h, tweight}});
  sumOfProducts(gtx, Tensor(), ofInputs, {{h, weight}});
  sumOfProducts(gweight, Tensor(), ofWeights, {{g, x}, {h, tx}});
  sumOfProducts(gtweight, Tensor(), ofWeights, {{h, x}});
  sumOfRows(gbias, g, rows);
  sumOfRows(gtbias, h, rows);
}

}  // namespace flowmap::cpu
