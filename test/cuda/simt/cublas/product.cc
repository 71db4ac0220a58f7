// The product itself, when its turn in the stream comes: plain loops, partial sums in float and their sum in double.
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "../runtime/library.h"
#include "core/dtype.h"
#include "objects.h"

namespace flowmap::simt {
namespace {

double element(const void* data, cudaDataType type, uint64_t at) {
  switch (type) {
    case CUDA_R_64F:
      return static_cast<const double*>(data)[at];
    case CUDA_R_32F:
      return static_cast<const float*>(data)[at];
    case CUDA_R_16BF:
      return static_cast<float>(static_cast<const BFloat16*>(data)[at]);
    default:
      return static_cast<float>(static_cast<const Float16*>(data)[at]);
  }
}

void store(void* data, cudaDataType type, uint64_t at, double value) {
  switch (type) {
    case CUDA_R_64F:
      static_cast<double*>(data)[at] = value;
      break;
    case CUDA_R_32F:
      static_cast<float*>(data)[at] = static_cast<float>(value);
      break;
    case CUDA_R_16BF:
      static_cast<BFloat16*>(data)[at] = BFloat16(static_cast<float>(value));
      break;
    default:
      static_cast<Float16*>(data)[at] = Float16(static_cast<float>(value));
  }
}

// To nearest, ties away: 10 bits after the point remain.
double roundToTf32(double value) {
  float x = static_cast<float>(value);
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7f800000) == 0x7f800000) return value;
  bits = (bits + 0x1000) & 0xffffe000;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// One matrix of the batch, column by column; `valid` turns false at the first byte that it must not touch.
class Columns {
 public:
  Columns(const LayoutOpaque& layout, const void* data, int64_t batch, const char* what, SimtDefect* defect)
      : layout_(layout),
        base_(static_cast<const char*>(data) + batch * layout.stride * int64_t(bytesOf(layout.type))),
        what_(what),
        defect_(defect) {}
  const void* read(uint64_t column) const { return simtRead(at(column), bytes(), what_, defect_); }
  void* write(uint64_t column) const { return simtWrite(const_cast<char*>(at(column)), bytes(), what_, defect_); }
  /** All values, op(X) row by row. */
  std::vector<double> values(bool transposed) const {
    std::vector<double> all(layout_.rows * layout_.columns);
    for (uint64_t column = 0; column < layout_.columns; ++column) {
      const void* from = read(column);
      if (!from) return {};
      for (uint64_t row = 0; row < layout_.rows; ++row) {
        all[transposed ? column * layout_.rows + row : row * layout_.columns + column] =
            element(from, layout_.type, row);
      }
    }
    return all;
  }

 private:
  const char* at(uint64_t column) const { return base_ + column * uint64_t(layout_.leading) * bytesOf(layout_.type); }
  size_t bytes() const { return layout_.rows * bytesOf(layout_.type); }
  const LayoutOpaque& layout_;
  const char* base_;
  const char* what_;
  SimtDefect* defect_;
};

double dot(const double* a, const double* b, uint64_t n, bool isDouble) {
  constexpr uint64_t kChunk = 32;
  double total = 0;
  for (uint64_t from = 0; from < n; from += kChunk) {
    const uint64_t to = std::min(n, from + kChunk);
    if (isDouble) {
      for (uint64_t i = from; i < to; ++i) total += a[i] * b[i];
    } else {
      float part = 0;
      for (uint64_t i = from; i < to; ++i) part += static_cast<float>(a[i]) * static_cast<float>(b[i]);
      total += part;
    }
  }
  return total;
}

void multiply(const Product& p, int64_t batch, SimtDefect* defect) {
  const Problem sizes = examine(p.desc, p.a, p.b, p.c, p.d);
  // op(A) by rows, op(B) by columns, so that both are read in order.
  std::vector<double> a = Columns(p.a, p.aData, batch, "A of cublasLtMatmul", defect).values(p.desc.transA == kOpT);
  std::vector<double> b = Columns(p.b, p.bData, batch, "B of cublasLtMatmul", defect).values(p.desc.transB == kOpN);
  const void* bias = nullptr;
  if (p.desc.epilogue & kEpilogueBias) {
    bias = simtRead(p.desc.bias, sizes.m * bytesOf(p.d.type), "the bias of cublasLtMatmul", defect);
  }
  if (defect->text[0]) return;
  if (p.desc.compute == kCompute32FFastTf32) {
    for (std::vector<double>* factor : {&a, &b}) {
      for (double& x : *factor) x = roundToTf32(x);
    }
  }
  const bool isDouble = p.desc.compute == kCompute64F;
  const Columns c(p.c, p.cData, batch, "C of cublasLtMatmul", defect);
  const Columns d(p.d, p.dData, batch, "D of cublasLtMatmul", defect);
  for (uint64_t column = 0; column < sizes.n; ++column) {
    const void* before = p.beta != 0 ? c.read(column) : nullptr;
    if (p.beta != 0 && !before) return;
    void* after = d.write(column);
    if (!after) return;
    for (uint64_t row = 0; row < sizes.m; ++row) {
      double value = p.alpha * dot(&a[row * sizes.k], &b[column * sizes.k], sizes.k, isDouble);
      if (before) value += p.beta * element(before, p.c.type, row);
      if (bias) value += element(bias, p.d.type, row);
      store(after, p.d.type, row, value);
    }
  }
}

void work(const void* data, SimtDefect* defect) {
  const auto& product = *static_cast<const Product*>(data);
  if (product.workspaceBytes > 0) {
    // Whatever was there is lost, as with the real one.
    void* space = simtWrite(product.workspace, product.workspaceBytes, "the workspace of cublasLtMatmul", defect);
    if (!space) return;
    std::memset(space, 0xff, product.workspaceBytes);
  }
  for (int64_t batch = 0; batch < product.d.batches && !defect->text[0]; ++batch) multiply(product, batch, defect);
}

}  // namespace

size_t bytesOf(cudaDataType type) { return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2; }

Status enqueueProduct(const Product& product, cudaStream_t stream) {
  const cudaError_t status =
      simtEnqueue(stream, &work, new Product(product), [](void* data) { delete static_cast<Product*>(data); });
  return status == cudaSuccess ? kSuccess : kExecutionFailed;
}

}  // namespace flowmap::simt
