// Gathering by index, and its transpose: rows added up in the order of their indices, whatever the number of threads.
#include <cstring>
#include <vector>

#include "core/dispatch.h"
#include "core/error.h"
#include "cpu/backend.h"
#include "cpu/convert.h"
#include "cpu/parallel.h"
#include "cpu/reduce_runs.h"

namespace flowmap::cpu {
namespace {

void checkIndices(const char* op, const Tensor& indices, int64_t size) {
  const int32_t* index = indices.data<const int32_t>();
  for (int64_t i = 0; i < indices.numel(); ++i) {
    if (index[i] < 0 || index[i] >= size) {
      fail(ErrorCode::Argument, op, "indices must be in [0, ", size, "), got ", index[i], " at position ", i);
    }
  }
}

}  // namespace

// x [outer, size, inner], indices [count] -> out [outer, count, inner]
void CpuBackend::take(const Tensor& out, const Tensor& x, const Tensor& indices, int axis) {
  const int64_t size = x.shape()[axis], count = indices.numel();
  checkIndices("take", indices, size);
  const int64_t outer = x.shape().product(0, axis), inner = x.shape().product(axis + 1, x.rank());
  const int32_t* index = indices.data<const int32_t>();
  dispatchBits(x.dtype(), [&]<class T>() {
    const T* from = x.data<const T>();
    T* y = out.data<T>();
    parallelFor(outer * count, out.numel() >= kParallelElements, inner >= 16 ? 1 : 64, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const T* source = from + (row / count * size + index[row % count]) * inner;
        if (inner == 1)
          y[row] = *source;
        else
          std::memcpy(y + row * inner, source, static_cast<size_t>(inner) * sizeof(T));
      }
    });
  });
}

// g [outer, count, inner], indices [count] -> gx [outer, size, inner]
void CpuBackend::takeVjp(const Tensor& gx, const Tensor& g, const Tensor& indices, int axis) {
  const int64_t size = gx.shape()[axis], count = indices.numel();
  checkIndices("takeVjp", indices, size);
  const int64_t outer = gx.shape().product(0, axis), inner = gx.shape().product(axis + 1, gx.rank());
  const int32_t* index = indices.data<const int32_t>();
  // Places sorted by index, stably: places[start[v] .. start[v + 1]) take from v.
  std::vector<int64_t> start(size + 1), places(count);
  for (int64_t i = 0; i < count; ++i) ++start[index[i] + 1];
  for (int64_t v = 0; v < size; ++v) start[v + 1] += start[v];
  std::vector<int64_t> next(start.begin(), start.end() - 1);
  for (int64_t i = 0; i < count; ++i) places[next[index[i]]++] = i;

  constexpr int64_t kColumns = 512;
  dispatchFloating(gx.dtype(), [&]<class T>() {
    using C = Compute<T>;
    const T* from = g.data<const T>();
    T* y = gx.data<T>();
    parallelFor(outer * size, (g.numel() + gx.numel()) >= kParallelElements, inner >= 16 ? 1 : 64,
                [&](int64_t begin, int64_t end) {
                  double totals[kColumns];
                  C wide[kColumns];
                  for (int64_t row = begin; row < end; ++row) {
                    const int64_t v = row % size, base = row / size * count;
                    T* to = y + row * inner;
                    if (start[v] == start[v + 1]) {
                      std::memset(static_cast<void*>(to), 0, static_cast<size_t>(inner) * sizeof(T));
                      continue;
                    }
                    for (int64_t column = 0; column < inner; column += kColumns) {
                      const int64_t width = std::min(kColumns, inner - column);
                      std::fill_n(totals, width, 0.0);
                      for (int64_t k = start[v]; k < start[v + 1]; ++k) {
                        const T* source = from + (base + places[k]) * inner + column;
                        if constexpr (std::is_same_v<T, C>) {
                          addRun(totals, source, width);
                        } else {
                          toFloatRun(wide, source, width);
                          addRun(totals, wide, width);
                        }
                      }
                      convertRun(DTypeOf<T>::value, to + column, DType::Float64, totals, width);
                    }
                  }
                });
  });
}

// indices [count] -> out [count, depth]
void CpuBackend::oneHot(const Tensor& out, const Tensor& indices) {
  const int64_t depth = out.shape()[-1];
  checkIndices("oneHot", indices, depth);
  fill(out, 0);
  const double value = 1;
  const int32_t* index = indices.data<const int32_t>();
  dispatchBits(out.dtype(), [&]<class T>() {
    T one;
    convertRun(out.dtype(), &one, DType::Float64, &value, 1);
    for (int64_t i = 0; i < indices.numel(); ++i) out.data<T>()[i * depth + index[i]] = one;
  });
}

}  // namespace flowmap::cpu
