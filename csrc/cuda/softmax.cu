// Softmax over the last axis. A group of 1 to 256 threads keeps a row in registers and reads it once; rows too long for
// that are cut into parts, whose maxima and sums a second kernel joins. Cuts and joins depend on the shape alone.
#include <cmath>

#include "core/dispatch.h"
#include "cuda/backend.h"
#include "cuda/divisor.h"
#include "cuda/lane_groups.cuh"
#include "cuda/launch.cuh"
#include "cuda/packet.cuh"
#include "cuda/scalar_lanes.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {
namespace {

constexpr int64_t kEnoughParts = 512;   // blocks that occupy any device we expect
constexpr int64_t kLeastPerThread = 8;  // packets a thread reads before more blocks are worth their join

// Packets of a row that a thread keeps: enough for 64 bytes of the tensor, or 16 single elements (8 of float64).
template <class T, int kCount>
constexpr int kKept = kCount == 1 ? (sizeof(T) == 8 ? 8 : 16) : 4;

template <class C>
__device__ __forceinline__ C lowest() {
  return -static_cast<C>(INFINITY);
}

struct RowsShape {
  int64_t rows, packets;  // packets of a row
  int lanes;              // threads that share a row
};

template <int kCount, int kSteps, class T>
__global__ void __launch_bounds__(kThreads) softmaxRowsKernel(T* y, const T* x, RowsShape shape) {
  using C = Compute<T>;
  __shared__ WarpTotals<C> warps;
  const int lane = threadIdx.x % shape.lanes, group = threadIdx.x / shape.lanes, groups = kThreads / shape.lanes;
  for (int64_t begin = int64_t{blockIdx.x} * groups; begin < shape.rows; begin += int64_t{gridDim.x} * groups) {
    const int64_t row = begin + group, packets = row < shape.rows ? shape.packets : 0;
    const int64_t at = row * shape.packets * kCount;
    Packet<T, kCount> loaded[kSteps];  // all of them are asked for before any is waited for
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int packet = step * shape.lanes + lane;
      if (packet < packets) loaded[step] = *reinterpret_cast<const Packet<T, kCount>*>(x + at + packet * kCount);
    }
    C values[kSteps][kCount];
    C top = lowest<C>();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (step * shape.lanes + lane >= packets) continue;
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        values[step][i] = static_cast<C>(loaded[step].at[i]);
        top = Largest<C>()(values[step][i], top);
      }
    }
    top = joinGroup(top, shape.lanes, Largest<C>(), warps);
    C sum = 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      if (step * shape.lanes + lane >= packets) continue;
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        values[step][i] = ::exp(values[step][i] - top);
        sum += values[step][i];
      }
    }
    const C scale = 1 / joinGroup(sum, shape.lanes, Plus<C>(), warps);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const int packet = step * shape.lanes + lane;
      if (packet >= packets) continue;
      Packet<T, kCount> result;
#pragma unroll
      for (int i = 0; i < kCount; ++i) result.at[i] = static_cast<T>(values[step][i] * scale);
      *reinterpret_cast<Packet<T, kCount>*>(y + at + packet * kCount) = result;
    }
  }
}

// The largest of some elements, and the sum of the exponentials of their distances to it.
template <class C>
struct Mass {
  C top, sum;
};

// exp(top − shift), which is 1 where both are the same infinity.
template <class C>
__device__ __forceinline__ C rescale(C top, C shift) {
  return top == shift ? C(1) : ::exp(top - shift);
}

struct PartsShape {
  int64_t rows, packets, parts, packetsPerPart;
  Divisor byParts;
};

// The mass of what all threads of the block hold, the same bits in all of them.
template <class C>
__device__ __forceinline__ Mass<C> joinMass(Mass<C> mass, WarpTotals<C>& warps) {
  const C top = joinGroup(mass.top, kThreads, Largest<C>(), warps);
  return {top, joinGroup(mass.sum * rescale(mass.top, top), kThreads, Plus<C>(), warps)};
}

template <int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    softmaxMassKernel(Mass<Compute<T>>* masses, const T* x, const __grid_constant__ PartsShape shape) {
  using C = Compute<T>;
  __shared__ WarpTotals<C> warps;
  for (int64_t unit = blockIdx.x; unit < shape.rows * shape.parts; unit += gridDim.x) {
    int64_t row = unit;
    const int64_t part = shape.byParts.take(row);
    const int64_t end = min(shape.packets, (part + 1) * shape.packetsPerPart);
    Mass<C> mass{lowest<C>(), 0};
    for (int64_t packet = part * shape.packetsPerPart + threadIdx.x; packet < end; packet += kThreads) {
      const auto loaded = *reinterpret_cast<const Packet<T, kCount>*>(x + (row * shape.packets + packet) * kCount);
      C top = mass.top;
#pragma unroll
      for (int i = 0; i < kCount; ++i) top = Largest<C>()(static_cast<C>(loaded.at[i]), top);
      mass.sum *= rescale(mass.top, top);
      mass.top = top;
      if (top == lowest<C>()) continue;  // a distance to it is NaN
#pragma unroll
      for (int i = 0; i < kCount; ++i) mass.sum += ::exp(static_cast<C>(loaded.at[i]) - top);
    }
    mass = joinMass(mass, warps);
    if (threadIdx.x == 0) masses[unit] = mass;
  }
}

template <int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    softmaxPartsKernel(T* y, const T* x, const Mass<Compute<T>>* masses, const __grid_constant__ PartsShape shape) {
  using C = Compute<T>;
  __shared__ WarpTotals<C> warps;
  for (int64_t unit = blockIdx.x; unit < shape.rows * shape.parts; unit += gridDim.x) {
    int64_t row = unit;
    const int64_t part = shape.byParts.take(row);
    const int64_t end = min(shape.packets, (part + 1) * shape.packetsPerPart);
    Mass<C> mass{lowest<C>(), 0};
    for (int64_t i = threadIdx.x; i < shape.parts; i += kThreads) {
      const Mass<C> next = masses[row * shape.parts + i];
      const C top = Largest<C>()(next.top, mass.top);
      mass = {top, mass.sum * rescale(mass.top, top) + next.sum * rescale(next.top, top)};
    }
    mass = joinMass(mass, warps);
    const C scale = 1 / mass.sum;
    for (int64_t packet = part * shape.packetsPerPart + threadIdx.x; packet < end; packet += kThreads) {
      const int64_t at = (row * shape.packets + packet) * kCount;
      const auto loaded = *reinterpret_cast<const Packet<T, kCount>*>(x + at);
      Packet<T, kCount> result;
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        result.at[i] = static_cast<T>(::exp(static_cast<C>(loaded.at[i]) - mass.top) * scale);
      }
      *reinterpret_cast<Packet<T, kCount>*>(y + at) = result;
    }
  }
}

template <int kCount, int kSteps, class T>
void softmaxRows(const Runtime& runtime, T* y, const T* x, int64_t rows, int64_t packets) {
  RowsShape shape{rows, packets, kSteps == 1 ? 1 : kWarp};  // warps read side by side
  while (shape.lanes < kThreads && shape.lanes * kSteps < packets) shape.lanes *= 2;
  launchKernel(runtime, softmaxRowsKernel<kCount, kSteps, T>, unitGrid(ceilDiv(rows, kThreads / shape.lanes)), y, x,
               shape);
}

template <int kCount, class T>
void softmaxParts(const Runtime& runtime, const Tensor& y, const Tensor& x, int64_t rows, int64_t packets) {
  PartsShape shape{rows, packets, 1, packets, {}};
  if (rows < kEnoughParts) {
    shape.parts = std::clamp<int64_t>(packets / (kThreads * kLeastPerThread), 1, ceilDiv(kEnoughParts, rows));
    shape.packetsPerPart = ceilDiv(packets, shape.parts);
  }
  shape.byParts = Divisor(shape.parts, rows * shape.parts);
  const Scratch<Mass<Compute<T>>> masses(x.device(), rows * shape.parts);
  const Grid grid = unitGrid(rows * shape.parts);
  launchKernel(runtime, softmaxMassKernel<kCount, T>, grid, masses.data(), x.data<const T>(), shape);
  launchKernel(runtime, softmaxPartsKernel<kCount, T>, grid, y.data<T>(), x.data<const T>(), masses.data(), shape);
}

template <int kCount, class T>
void softmaxOf(const Runtime& runtime, const Tensor& y, const Tensor& x, int64_t rows, int64_t packets) {
  if (packets <= kWarp)
    softmaxRows<kCount, 1, T>(runtime, y.data<T>(), x.data<const T>(), rows, packets);
  else if (packets <= kThreads * kKept<T, kCount>)
    softmaxRows<kCount, kKept<T, kCount>, T>(runtime, y.data<T>(), x.data<const T>(), rows, packets);
  else
    softmaxParts<kCount, T>(runtime, y, x, rows, packets);
}

}  // namespace

void CudaBackend::softmax(const Tensor& y, const Tensor& x) {
  if (x.numel() == 0) return;
  const int64_t width = x.shape()[-1], rows = x.numel() / width;
  dispatchFloating(x.dtype(), [&]<class T>() {
    constexpr int kCount = kPacketBytes / sizeof(T);
    if (width % kCount == 0)
      softmaxOf<kCount, T>(runtime_, y, x, rows, width / kCount);
    else
      softmaxOf<1, T>(runtime_, y, x, rows, width);
  });
}

}  // namespace flowmap::cuda
