// One kernel moves elements between any two orders, in units as wide as both orders allow; transposes go through tiles
// in shared memory, so that both sides are walked along their innermost axis.
#include "core/copy_walk.h"
#include "core/dispatch.h"
#include "cuda/backend.h"
#include "cuda/launch.cuh"
#include "cuda/packet.cuh"
#include "cuda/strided_axes.cuh"

namespace flowmap::cuda {
namespace {

constexpr int kTile = 32;
constexpr int kTileRows = kThreads / kTile;  // rows of a tile moved at once

template <class T>
__global__ void __launch_bounds__(kThreads)
    copyKernel(T* y, const T* x, int64_t n, const __grid_constant__ StridedAxes out,
               const __grid_constant__ StridedAxes in) {
#pragma unroll 1  // unrolled, it would begin with a 64-bit division for the number of rounds
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    int64_t to, from;
    out.offsets(i, in, to, from);
    y[to] = x[from];
  }
}

struct TransposeShape {
  StridedAxes out, in;  // the axes around the two
  int64_t m, n;         // x[m + n * inStride] goes to y[m * outStride + n]
  int64_t outStride, inStride;
  Divisor byMTiles, byNTiles;
  int64_t units;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    transposeKernel(T* y, const T* x, const __grid_constant__ TransposeShape shape) {
  // The column beyond the tile keeps a column's elements in different banks.
  __shared__ T tile[kTile][kTile + 1];
  const int column = threadIdx.x % kTile, row = threadIdx.x / kTile;
  for (int64_t unit = blockIdx.x; unit < shape.units; unit += gridDim.x) {
    int64_t around = unit;
    const int64_t m0 = shape.byMTiles.take(around) * kTile, n0 = shape.byNTiles.take(around) * kTile;
    const T* from = x + shape.in.offset(around);
    T* to = y + shape.out.offset(around);
#pragma unroll
    for (int i = row; i < kTile; i += kTileRows) {
      if (m0 + column < shape.m && n0 + i < shape.n) tile[i][column] = from[m0 + column + (n0 + i) * shape.inStride];
    }
    __syncthreads();
#pragma unroll
    for (int i = row; i < kTile; i += kTileRows) {
      if (m0 + i < shape.m && n0 + column < shape.n) to[(m0 + i) * shape.outStride + n0 + column] = tile[column][i];
    }
    __syncthreads();
  }
}

template <class T>
void transpose(const Runtime& runtime, const CopyWalk& walk, int other, T* y, const T* x) {
  CopyWalk rest = walk;  // the axes around the two
  const int inner = walk.rank - 1;
  rest.rank = 0;
  for (int axis = 0; axis < inner; ++axis) {
    if (axis != other) rest.push(walk.sizes[axis], walk.out[axis], walk.in[axis]);
  }
  TransposeShape shape{};
  shape.out = StridedAxes(rest.rank, rest.sizes, rest.out);
  shape.in = StridedAxes(rest.rank, rest.sizes, rest.in);
  shape.m = walk.sizes[other];
  shape.n = walk.sizes[inner];
  shape.outStride = walk.out[other];
  shape.inStride = walk.in[inner];
  const int64_t mTiles = (shape.m + kTile - 1) / kTile, nTiles = (shape.n + kTile - 1) / kTile;
  shape.units = rest.count(rest.rank) * mTiles * nTiles;
  shape.byMTiles = Divisor(mTiles, shape.units);
  shape.byNTiles = Divisor(nTiles, shape.units);
  launchKernel(runtime, transposeKernel<T>, Grid{dim3(static_cast<unsigned>(std::min<int64_t>(shape.units, 1 << 20)))},
               y, x, shape);
}

// The widest unit in which the walk can be taken: its rows lie side by side on both sides, and all offsets are
// multiples.
int unitWidth(const CopyWalk& walk, int64_t itemSize, int64_t outOffset, int64_t inOffset) {
  const int inner = walk.rank - 1;
  if (walk.out[inner] != 1 || walk.in[inner] != 1) return static_cast<int>(itemSize);
  int width = commonWidth(itemSize, walk.sizes[inner] * itemSize, outOffset * itemSize, inOffset * itemSize);
  for (int axis = 0; axis < inner; ++axis) {
    width = std::min(width, commonWidth(itemSize, walk.out[axis] * itemSize, walk.in[axis] * itemSize));
  }
  return width;
}

}  // namespace

void CudaBackend::copyStrided(const Tensor& out, const StridedView& outView, const Tensor& x, const StridedView& xView,
                              const Shape& sizes) {
  if (sizes.numel() == 0) return;
  CopyWalk walk(sizes, outView, xView);
  const int64_t item = static_cast<int64_t>(itemSize(out.dtype()));
  const int other = walk.transposed();
  if (other >= 0) {
    return dispatchBits(out.dtype(), [&]<class T>() {
      transpose(runtime_, walk, other, out.data<T>() + outView.offset, x.data<const T>() + xView.offset);
    });
  }
  const int width = unitWidth(walk, item, outView.offset, xView.offset);
  const int64_t each = width / item;
  const int inner = walk.rank - 1;
  walk.sizes[inner] /= each;
  for (int axis = 0; axis < inner; ++axis) {
    walk.out[axis] /= each;
    walk.in[axis] /= each;
  }
  const int64_t n = walk.count(walk.rank);
  dispatchWidth(width, [&]<class T>() {
    launchKernel(runtime_, copyKernel<T>, gridFor(runtime_, n), out.data<T>() + outView.offset / each,
                 x.data<const T>() + xView.offset / each, n, StridedAxes(walk.rank, walk.sizes, walk.out),
                 StridedAxes(walk.rank, walk.sizes, walk.in));
  });
}

}  // namespace flowmap::cuda
