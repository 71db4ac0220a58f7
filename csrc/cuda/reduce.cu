// Reductions over any set of axes. How work is cut depends on the shape alone and partial results are joined in a fixed
// order: the same bits every time, on every device. Sums of floats are kept in double, as on the CPU.
#include <limits>

#include "core/dispatch.h"
#include "core/reduce_layout.h"
#include "cuda/backend.h"
#include "cuda/lane_groups.cuh"
#include "cuda/launch.cuh"
#include "cuda/packet.cuh"
#include "cuda/scalar_lanes.cuh"
#include "cuda/scratch.h"
#include "cuda/strided_axes.cuh"

namespace flowmap::cuda {
namespace {

constexpr int64_t kEnoughUnits = 512;   // blocks that occupy any device we expect
constexpr int64_t kLeastPerThread = 8;  // packets a thread adds up before more blocks are worth their join

// T is what is stored, Total what is kept between, Out what comes out.
template <class T, class OutT>
struct SumOf {
  using Total = std::conditional_t<std::is_integral_v<T>, int64_t, double>;
  using Out = OutT;
  double count;  // 1 for a sum
  __device__ Total identity() const { return 0; }
  __device__ Total join(Total a, Total b) const { return a + b; }
  __device__ Out finish(Total total) const {
    if constexpr (std::is_integral_v<T>)
      return static_cast<Out>(total);
    else
      return static_cast<Out>(static_cast<Compute<Out>>(total / count));
  }
};

template <class T>
struct ExtremeOf {
  using Total = Compute<T>;
  using Out = T;
  bool largest;
  Total start;
  __device__ Total identity() const { return start; }
  __device__ Total join(Total best, Total x) const {
    const Lane<Total> d;
    return largest ? maximum(d, x, best) : minimum(d, x, best);
  }
  __device__ Out finish(Total total) const { return static_cast<Out>(total); }
};

template <class T>
T worst(bool largest) {
  using Limits = std::numeric_limits<T>;
  if constexpr (std::is_floating_point_v<T>)
    return largest ? -Limits::infinity() : Limits::infinity();
  else
    return largest ? Limits::lowest() : Limits::max();
}

// The total of `lanes` neighbouring threads, a power of two up to a warp, in the first of them.
template <class Reduction, class Total = typename Reduction::Total>
__device__ __forceinline__ Total joinLanes(const Reduction& reduction, Total total, int lanes) {
  for (int distance = lanes / 2; distance > 0; distance /= 2) {
    total = reduction.join(total, static_cast<Total>(__shfl_down_sync(0xffffffffu, total, distance)));
  }
  return total;
}

struct RowsShape {
  StridedAxes kept, reduced;
  Divisor bySplits, byInner;
  int64_t innerPackets;  // per row; a result is the join of all rows
  int64_t packets;       // per result
  int64_t results, splits, packetsPerSplit;
  int lanes;  // threads that share a result: up to a warp, or all of the block
};

// The innermost axes are reduced: groups of threads read whole rows.
template <int kCount, class T, class Reduction>
__global__ void __launch_bounds__(kThreads)
    reduceRowsKernel(typename Reduction::Out* y, typename Reduction::Total* partials, const T* x,
                     const __grid_constant__ RowsShape shape, Reduction reduction) {
  using Total = typename Reduction::Total;
  __shared__ Total warps[kThreads / kWarp];
  const int lane = threadIdx.x % shape.lanes, group = threadIdx.x / shape.lanes, groups = kThreads / shape.lanes;
  const int64_t units = shape.results * shape.splits;
  for (int64_t first = int64_t{blockIdx.x} * groups; first < units; first += int64_t{gridDim.x} * groups) {
    const int64_t unit = first + group;
    Total total = reduction.identity();
    if (unit < units) {
      int64_t result = unit;
      const int64_t begin = shape.bySplits.take(result) * shape.packetsPerSplit;
      const int64_t end = min(shape.packets, begin + shape.packetsPerSplit);
      const T* base = x + shape.kept.offset(result);
      for (int64_t packet = begin + lane; packet < end; packet += shape.lanes) {
        int64_t at = packet * kCount;
        if (shape.reduced.rank > 0) {
          int64_t row = packet;
          const int64_t column = shape.byInner.take(row);
          at = shape.reduced.offset(row) + column * kCount;
        }
        const Packet<T, kCount> values = *reinterpret_cast<const Packet<T, kCount>*>(base + at);
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          total = reduction.join(total, static_cast<Total>(static_cast<Compute<T>>(values.at[i])));
        }
      }
    }
    total = joinLanes(reduction, total, min(shape.lanes, kWarp));
    if (shape.lanes > kWarp) {
      if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = total;
      __syncthreads();
      total = warps[0];
      if (threadIdx.x == 0) {
        for (int i = 1; i < kThreads / kWarp; ++i) total = reduction.join(total, warps[i]);
      }
      __syncthreads();
    }
    if (lane == 0 && unit < units) {
      if (partials)
        partials[unit] = total;
      else
        y[unit] = reduction.finish(total);
    }
  }
}

struct ColumnsShape {
  StridedAxes kept, reduced;
  int64_t outer, columns;  // columns in packets
  int64_t tiles;           // of `width` packets across
  int64_t rows, splits, rowsPerSplit;
  Divisor bySplits, byTiles;
  int width;  // threads across; the others share the rows
};

// The innermost axes are kept: neighbouring threads walk down neighbouring columns.
template <int kCount, class T, class Reduction>
__global__ void __launch_bounds__(kThreads)
    reduceColumnsKernel(typename Reduction::Out* y, typename Reduction::Total* partials, const T* x,
                        const __grid_constant__ ColumnsShape shape, Reduction reduction) {
  using Total = typename Reduction::Total;
  __shared__ Total shared[kCount][kThreads];
  const int across = threadIdx.x % shape.width, down = threadIdx.x / shape.width, depth = kThreads / shape.width;
  const int64_t units = shape.outer * shape.tiles * shape.splits;
  for (int64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
    int64_t outer = unit;
    const int64_t split = shape.bySplits.take(outer), column = shape.byTiles.take(outer) * shape.width + across;
    Total totals[kCount];
#pragma unroll
    for (int i = 0; i < kCount; ++i) totals[i] = reduction.identity();
    if (column < shape.columns) {
      const T* base = x + shape.kept.offset(outer) + column * kCount;
      const int64_t end = min(shape.rows, (split + 1) * shape.rowsPerSplit);
      for (int64_t row = split * shape.rowsPerSplit + down; row < end; row += depth) {
        const Packet<T, kCount> values = *reinterpret_cast<const Packet<T, kCount>*>(base + shape.reduced.offset(row));
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          totals[i] = reduction.join(totals[i], static_cast<Total>(static_cast<Compute<T>>(values.at[i])));
        }
      }
    }
    for (int rest = depth / 2; rest > 0; rest /= 2) {
      if (down >= rest && down < 2 * rest) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) shared[i][threadIdx.x] = totals[i];
      }
      __syncthreads();
      if (down < rest) {
#pragma unroll
        for (int i = 0; i < kCount; ++i)
          totals[i] = reduction.join(totals[i], shared[i][threadIdx.x + rest * shape.width]);
      }
    }
    __syncthreads();
    if (down == 0 && column < shape.columns) {
      const int64_t width = shape.columns * kCount, first = outer * width + column * kCount;
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        if (partials)
          partials[split * shape.outer * width + first + i] = totals[i];
        else
          y[first + i] = reduction.finish(totals[i]);
      }
    }
  }
}

// y[i] = the join of partials[i * resultStride + split * splitStride], a warp each.
template <class Reduction>
__global__ void __launch_bounds__(kThreads)
    joinPartialsKernel(typename Reduction::Out* y, const typename Reduction::Total* partials, int64_t results,
                       int64_t splits, int64_t resultStride, int64_t splitStride, Reduction reduction) {
  using Total = typename Reduction::Total;
  const int lane = threadIdx.x % kWarp;
  for (int64_t result = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarp; result < results;
       result += int64_t{gridDim.x} * blockDim.x / kWarp) {
    Total total = reduction.identity();
    for (int64_t split = lane; split < splits; split += kWarp) {
      total = reduction.join(total, partials[result * resultStride + split * splitStride]);
    }
    total = joinLanes(reduction, total, kWarp);
    if (lane == 0) y[result] = reduction.finish(total);
  }
}

// The least power of two that is not below n, at most `most`.
int powerOfTwo(int64_t n, int most) {
  int power = 1;
  while (power < n && power < most) power *= 2;
  return power;
}

StridedAxes stridedAxes(const ReduceAxes& axes) { return {axes.rank, axes.sizes, axes.strides}; }

template <class Reduction>
void joinPartials(const Runtime& runtime, const Tensor& out, const typename Reduction::Total* partials, int64_t results,
                  int64_t splits, int64_t resultStride, int64_t splitStride, const Reduction& reduction) {
  launchKernel(runtime, joinPartialsKernel<Reduction>, gridFor(runtime, results * kWarp),
               out.data<typename Reduction::Out>(), partials, results, splits, resultStride, splitStride, reduction);
}

template <int kCount, class T, class Reduction>
void reduceRows(const Runtime& runtime, const ReduceLayout& layout, const Tensor& out, const Tensor& x,
                const Reduction& reduction) {
  using Total = typename Reduction::Total;
  RowsShape shape{};
  shape.kept = stridedAxes(layout.kept);
  shape.reduced = stridedAxes(layout.reduced);
  shape.innerPackets = layout.inner / kCount;
  shape.packets = layout.reduced.count() * shape.innerPackets;
  shape.byInner = Divisor(shape.innerPackets, shape.packets);
  shape.results = layout.kept.count();
  shape.lanes =
      shape.packets >= kThreads * kLeastPerThread / 2 ? kThreads : powerOfTwo(ceilDiv(shape.packets, 4), kWarp);
  shape.splits = 1;
  if (shape.results < kEnoughUnits) {
    shape.splits =
        std::clamp<int64_t>(shape.packets / (kThreads * kLeastPerThread), 1, ceilDiv(kEnoughUnits, shape.results));
  }
  shape.packetsPerSplit = ceilDiv(shape.packets, shape.splits);
  shape.bySplits = Divisor(shape.splits, shape.results * shape.splits + kThreads);
  const Grid grid = unitGrid(ceilDiv(shape.results * shape.splits, kThreads / shape.lanes));
  typename Reduction::Out* y = out.data<typename Reduction::Out>();
  if (shape.splits == 1) {
    launchKernel(runtime, reduceRowsKernel<kCount, T, Reduction>, grid, y, nullptr, x.data<const T>(), shape,
                 reduction);
    return;
  }
  const Scratch<Total> partials(x.device(), shape.results * shape.splits);
  launchKernel(runtime, reduceRowsKernel<kCount, T, Reduction>, grid, y, partials.data(), x.data<const T>(), shape,
               reduction);
  joinPartials(runtime, out, partials.data(), shape.results, shape.splits, shape.splits, 1, reduction);
}

template <int kCount, class T, class Reduction>
void reduceColumns(const Runtime& runtime, const ReduceLayout& layout, const Tensor& out, const Tensor& x,
                   const Reduction& reduction) {
  using Total = typename Reduction::Total;
  ColumnsShape shape{};
  shape.kept = stridedAxes(layout.kept);
  shape.reduced = stridedAxes(layout.reduced);
  shape.outer = layout.kept.count();
  shape.columns = layout.inner / kCount;
  shape.rows = layout.reduced.count();
  const int narrowest = powerOfTwo(shape.columns, kWarp);
  const int depth = powerOfTwo(ceilDiv(shape.rows, 4), kThreads / narrowest);
  shape.width = kThreads / depth;
  shape.tiles = ceilDiv(shape.columns, shape.width);
  shape.splits = 1;
  const int64_t places = shape.outer * shape.tiles;
  if (places < kEnoughUnits) {
    shape.splits = std::clamp<int64_t>(shape.rows / (depth * kLeastPerThread), 1, ceilDiv(kEnoughUnits, places));
  }
  shape.rowsPerSplit = ceilDiv(shape.rows, shape.splits);
  shape.bySplits = Divisor(shape.splits, places * shape.splits);
  shape.byTiles = Divisor(shape.tiles, places);
  const Grid grid = unitGrid(places * shape.splits);
  typename Reduction::Out* y = out.data<typename Reduction::Out>();
  if (shape.splits == 1) {
    launchKernel(runtime, reduceColumnsKernel<kCount, T, Reduction>, grid, y, nullptr, x.data<const T>(), shape,
                 reduction);
    return;
  }
  const int64_t results = shape.outer * layout.inner;
  const Scratch<Total> partials(x.device(), results * shape.splits);
  launchKernel(runtime, reduceColumnsKernel<kCount, T, Reduction>, grid, y, partials.data(), x.data<const T>(), shape,
               reduction);
  joinPartials(runtime, out, partials.data(), results, shape.splits, 1, results, reduction);
}

template <class T, class Reduction>
void reduceAny(const Runtime& runtime, const ReduceLayout& layout, const Tensor& out, const Tensor& x,
               const Reduction& reduction) {
  constexpr int kRowCount = kPacketBytes / sizeof(T);
  constexpr int kColumnCount = std::min(kRowCount, 4);  // totals a thread keeps in registers
  if (layout.innerReduced) {
    if (layout.inner % kRowCount == 0)
      reduceRows<kRowCount, T>(runtime, layout, out, x, reduction);
    else
      reduceRows<1, T>(runtime, layout, out, x, reduction);
  } else if (layout.inner % kColumnCount == 0) {
    reduceColumns<kColumnCount, T>(runtime, layout, out, x, reduction);
  } else {
    reduceColumns<1, T>(runtime, layout, out, x, reduction);
  }
}

template <class C>
struct Candidate {
  C value;
  int32_t index;
};

// The more extreme, NaN above all, the first among equals: the same whatever the order of joining.
template <class C>
__device__ __forceinline__ Candidate<C> better(bool largest, Candidate<C> a, Candidate<C> b) {
  const bool aNaN = a.value != a.value, bNaN = b.value != b.value;
  const bool tie = (aNaN && bNaN) || a.value == b.value;
  if (tie) return b.index < a.index ? b : a;
  if (aNaN || bNaN) return aNaN ? a : b;
  return (largest ? b.value > a.value : b.value < a.value) ? b : a;
}

struct ArgShape {
  int64_t n, inner, results, splits, perSplit;
  int64_t units;  // tiles of results times splits
  Divisor bySplits, byInner;
  int width;  // results a block looks at together; its other threads share their elements
};

// x [outer, n, inner]. Neighbouring threads have neighbouring elements: of several results, or of one where inner is 1.
template <class T>
__global__ void __launch_bounds__(kThreads)
    argReduceKernel(int32_t* y, Candidate<Compute<T>>* partials, const T* x, ArgShape shape, bool largest) {
  using C = Compute<T>;
  __shared__ Candidate<C> shared[kThreads];
  const int depth = kThreads / shape.width;
  const int across = shape.inner == 1 ? threadIdx.x / depth : threadIdx.x % shape.width;
  const int down = shape.inner == 1 ? threadIdx.x % depth : threadIdx.x / shape.width;
  for (int64_t unit = blockIdx.x; unit < shape.units; unit += gridDim.x) {
    int64_t tile = unit;
    const int64_t split = shape.bySplits.take(tile), result = tile * shape.width + across;
    const int64_t begin = split * shape.perSplit, end = min(shape.n, begin + shape.perSplit);
    Candidate<C> best{C(), -1};
    if (result < shape.results) {
      int64_t outer = result;
      const int64_t column = shape.byInner.take(outer);
      const T* base = x + outer * shape.n * shape.inner + column;
      for (int64_t i = begin + down; i < end; i += depth) {
        const Candidate<C> next{static_cast<C>(base[i * shape.inner]), static_cast<int32_t>(i)};
        best = best.index < 0 ? next : better(largest, best, next);
      }
    }
    shared[down * shape.width + across] = best;
    __syncthreads();
    for (int rest = depth / 2; rest > 0; rest /= 2) {
      if (down < rest) {
        const Candidate<C> other = shared[(down + rest) * shape.width + across];
        if (best.index < 0)
          best = other;
        else if (other.index >= 0)
          best = better(largest, best, other);
        shared[down * shape.width + across] = best;
      }
      __syncthreads();
    }
    if (down == 0 && result < shape.results) {
      if (partials)
        partials[split * shape.results + result] = best;
      else
        y[result] = best.index;
    }
  }
}

template <class C>
__global__ void __launch_bounds__(kThreads)
    joinCandidatesKernel(int32_t* y, const Candidate<C>* partials, int64_t results, int64_t splits, bool largest) {
  for (int64_t result = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; result < results;
       result += int64_t{gridDim.x} * blockDim.x) {
    Candidate<C> best = partials[result];
    for (int64_t split = 1; split < splits; ++split) best = better(largest, best, partials[split * results + result]);
    y[result] = best.index;
  }
}

}  // namespace

void CudaBackend::reduce(ReduceOp op, const Tensor& out, const Tensor& x, const std::array<bool, kMaxRank>& reduced) {
  if (out.numel() == 0) return;
  const bool sums = op == ReduceOp::Sum || op == ReduceOp::Mean;
  if (x.numel() == 0) return fill(out, op == ReduceOp::Mean ? std::numeric_limits<double>::quiet_NaN() : 0.0);
  const ReduceLayout layout(x.shape(), reduced);
  if (!sums) {
    return dispatchAll(x.dtype(), [&]<class T>() {
      const bool largest = op == ReduceOp::Max;
      reduceAny<T>(runtime_, layout, out, x, ExtremeOf<T>{largest, worst<Compute<T>>(largest)});
    });
  }
  if (x.dtype() == DType::Bool) return reduceAny<uint8_t>(runtime_, layout, out, x, SumOf<uint8_t, int32_t>{1});
  if (x.dtype() == DType::Int32) return reduceAny<int32_t>(runtime_, layout, out, x, SumOf<int32_t, int32_t>{1});
  const double count = op == ReduceOp::Mean ? static_cast<double>(x.numel() / out.numel()) : 1.0;
  dispatchFloating(x.dtype(), [&]<class T>() { reduceAny<T>(runtime_, layout, out, x, SumOf<T, T>{count}); });
}

void CudaBackend::argReduce(ArgReduceOp op, const Tensor& out, const Tensor& x, int axis) {
  if (out.numel() == 0) return;
  ArgShape shape{};
  shape.n = x.shape()[axis];
  shape.inner = x.shape().product(axis + 1, x.rank());
  shape.results = out.numel();
  const int narrowest = shape.inner == 1 ? 1 : powerOfTwo(shape.inner, kWarp);
  const int depth = powerOfTwo(ceilDiv(shape.n, 4), kThreads / narrowest);
  shape.width = kThreads / depth;
  const int64_t tiles = ceilDiv(shape.results, shape.width);
  shape.splits = 1;
  if (tiles < kEnoughUnits) {
    shape.splits = std::clamp<int64_t>(shape.n / (depth * kLeastPerThread * 4), 1, ceilDiv(kEnoughUnits, tiles));
  }
  shape.perSplit = ceilDiv(shape.n, shape.splits);
  shape.splits = ceilDiv(shape.n, shape.perSplit);  // none may be empty
  shape.units = tiles * shape.splits;
  shape.bySplits = Divisor(shape.splits, shape.units);
  shape.byInner = Divisor(shape.inner, tiles * shape.width);
  const bool largest = op == ArgReduceOp::ArgMax;
  const Grid grid = unitGrid(shape.units);
  dispatchAll(x.dtype(), [&]<class T>() {
    using C = Compute<T>;
    int32_t* y = out.data<int32_t>();
    if (shape.splits == 1) {
      launchKernel(runtime_, argReduceKernel<T>, grid, y, nullptr, x.data<const T>(), shape, largest);
      return;
    }
    const Scratch<Candidate<C>> partials(x.device(), shape.results * shape.splits);
    launchKernel(runtime_, argReduceKernel<T>, grid, y, partials.data(), x.data<const T>(), shape, largest);
    launchKernel(runtime_, joinCandidatesKernel<C>, gridFor(runtime_, shape.results), y, partials.data(), shape.results,
                 shape.splits, largest);
  });
}

}  // namespace flowmap::cuda
