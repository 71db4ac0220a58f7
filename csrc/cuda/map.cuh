// One kernel for every elementwise operation: each thread computes a packet of neighbouring results from operands that
// broadcast. Contiguous operands and single values need no division; rows of whole packets one per axis and packet.
#pragma once

#include <utility>

#include "core/broadcast.h"
#include "core/dispatch.h"
#include "cuda/divisor.h"
#include "cuda/launch.cuh"
#include "cuda/packet.cuh"

namespace flowmap::cuda {

// A tensor, or where data is null a number, which is not rounded to a 16-bit type.
template <class T>
struct Operand {
  const T* data;
  Compute<T> scalar;
};

template <class C, int kCount>
struct Values {
  C at[kCount];
};

template <int kOperands>
struct MapWalk {
  int rank;
  Divisor axes[kMaxRank];                // in packets; innermost first
  int64_t strides[kOperands][kMaxRank];  // in elements per index
  bool repeats[kOperands];               // along the innermost axis
};

template <int kCount, class T>
__device__ __forceinline__ Values<Compute<T>, kCount> loadValues(const Operand<T>& x, int64_t at, bool repeats,
                                                                 int live) {
  using C = Compute<T>;
  Values<C, kCount> values;
  if (x.data == nullptr || repeats) {
    const C value = x.data ? static_cast<C>(x.data[at]) : x.scalar;
#pragma unroll
    for (int i = 0; i < kCount; ++i) values.at[i] = value;
  } else if (live == kCount) {
    const Packet<T, kCount> packet = *reinterpret_cast<const Packet<T, kCount>*>(x.data + at);
#pragma unroll
    for (int i = 0; i < kCount; ++i) values.at[i] = static_cast<C>(packet.at[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values.at[i] = static_cast<C>(x.data[i < live ? at + i : at]);
  }
  return values;
}

template <class Out, int kCount>
__device__ __forceinline__ void storePacket(Out* y, const Packet<Out, kCount>& result, int live) {
  if (live == kCount) {
    *reinterpret_cast<Packet<Out, kCount>*>(y) = result;
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < live) y[i] = result.at[i];
    }
  }
}

template <class Out, int kCount, class Op, class... Cs>
__device__ __forceinline__ Packet<Out, kCount> applyValues(const Op& op, const Values<Cs, kCount>&... in) {
  Packet<Out, kCount> result;
#pragma unroll
  for (int i = 0; i < kCount; ++i) result.at[i] = static_cast<Out>(op(in.at[i]...));
  return result;
}

template <int kCount, class Out, class Op, size_t... kIndex, class... Ins>
__device__ __forceinline__ void mapPackets(Out* y, int64_t n, const MapWalk<sizeof...(Ins)>& walk, const Op& op,
                                           std::index_sequence<kIndex...>, const Operand<Ins>&... x) {
  const int64_t packets = (n + kCount - 1) / kCount;
  for (int64_t packet = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; packet < packets;
       packet += int64_t{gridDim.x} * blockDim.x) {
    int64_t at[sizeof...(Ins)] = {};
    int64_t rest = packet;
    for (int axis = 0; axis + 1 < walk.rank; ++axis) {
      const int64_t index = walk.axes[axis].take(rest);
      ((at[kIndex] += index * walk.strides[kIndex][axis]), ...);
    }
    ((at[kIndex] += rest * walk.strides[kIndex][walk.rank - 1]), ...);
    const int64_t first = packet * kCount;
    const int live = n - first < kCount ? static_cast<int>(n - first) : kCount;
    const Packet<Out, kCount> result =
        applyValues<Out, kCount>(op, loadValues<kCount>(x, at[kIndex], walk.repeats[kIndex], live)...);
    storePacket(y + first, result, live);
  }
}

template <int kCount, class Out, class Op, class... Ins>
__global__ void __launch_bounds__(kThreads)
    mapKernel(Out* y, int64_t n, const __grid_constant__ MapWalk<sizeof...(Ins)> walk, Op op, Operand<Ins>... x) {
  mapPackets<kCount>(y, n, walk, op, std::index_sequence_for<Ins...>{}, x...);
}

template <int kCount, class Out, class Op, class... Ins>
void launchMap(const Runtime& runtime, Out* y, int64_t n, const BroadcastPlan<sizeof...(Ins)>& plan, Op op,
               Operand<Ins>... x) {
  constexpr int kOperands = sizeof...(Ins);
  const int64_t packets = (n + kCount - 1) / kCount;
  MapWalk<kOperands> walk{};
  walk.rank = plan.rank;
  for (int axis = 0; axis < plan.rank; ++axis) {
    const int from = plan.rank - 1 - axis;
    if (axis + 1 < plan.rank) walk.axes[axis] = Divisor(plan.sizes[from] / (axis == 0 ? kCount : 1), packets);
    for (int k = 0; k < kOperands; ++k) walk.strides[k][axis] = plan.strides[k][from] * (axis == 0 ? kCount : 1);
  }
  for (int k = 0; k < kOperands; ++k) walk.repeats[k] = plan.step(k) == 0;
  launchKernel(runtime, mapKernel<kCount, Out, Op, Ins...>, gridFor(runtime, packets), y, n, walk, op, x...);
}

// y[i] = op(x[i]...), each x broadcast by `plan`; op takes and gives the types arithmetic is done in.
template <class Out, class Op, class... Ins>
void map(const Runtime& runtime, Out* y, int64_t n, const BroadcastPlan<sizeof...(Ins)>& plan, Op op,
         Operand<Ins>... x) {
  if (n == 0) return;
  constexpr int kWidest = static_cast<int>(std::max({sizeof(Out), sizeof(Ins)...}));
  constexpr int kCount = kPacketBytes / kWidest;
  if (plan.rank == 1 || plan.inner() % kCount == 0)
    launchMap<kCount>(runtime, y, n, plan, op, x...);
  else
    launchMap<1>(runtime, y, n, plan, op, x...);
}

// The same where the one operand has the order of the result.
template <class Out, class Op, class In>
void mapFlat(const Runtime& runtime, Out* y, int64_t n, Op op, const In* x) {
  if (n == 0) return;
  constexpr int kCount = kPacketBytes / static_cast<int>(std::max(sizeof(Out), sizeof(In)));
  MapWalk<1> walk{};
  walk.rank = 1;
  walk.strides[0][0] = kCount;
  launchKernel(runtime, mapKernel<kCount, Out, Op, In>, gridFor(runtime, (n + kCount - 1) / kCount), y, n, walk, op,
               Operand<In>{x, Compute<In>()});
}

}  // namespace flowmap::cuda
