// Rows of a normalised tensor as the threads of a group hold them: packets in registers, read once, or rows too long
// for that, read anew on every walk (they are in the L2 cache by then). Algorithms are written once, over walks.
#pragma once

#include <cstring>
#include <type_traits>

#include "core/dispatch.h"
#include "core/norm_args.h"
#include "cuda/divisor.h"
#include "cuda/lane_groups.cuh"
#include "cuda/packet.cuh"

namespace flowmap::cuda {

constexpr int kMostSets = 3;  // tensors whose rows lie alike: q, k and v of one projection

// A NormLayout for kernels.
struct NormRows {
  int64_t rows, dim, packets;  // packets of a row
  int64_t rowsPerGroup;
  Divisor byGroup, bySegment;
  int64_t segmentStride, segmentOffset;
  double eps, gainOffset;
  int lanes;  // threads that share a row
  bool centered;

  NormRows(const NormLayout& layout, bool hasGain, int count)
      : rows(layout.rows),
        dim(layout.dim),
        packets(layout.dim / count),
        rowsPerGroup(layout.rowsPerGroup),
        byGroup(layout.rowsPerGroup, layout.rows + kThreads),
        bySegment(layout.rowsPerSegment, layout.rows + kThreads),
        segmentStride(layout.segmentStride),
        segmentOffset(layout.segmentOffset),
        eps(layout.eps),
        gainOffset(hasGain ? layout.gainOffset : 0),
        lanes(1),
        centered(layout.centered) {}

  // Where row i of x begins.
  __device__ __forceinline__ int64_t inside(int64_t row) const {
    int64_t segment = row;
    const int64_t rest = bySegment.take(segment);
    return segment * segmentStride + segmentOffset + rest * dim;
  }
};

// Whether packets of `count` elements lie whole in all rows.
inline bool dividesRows(const NormLayout& layout, int count) {
  return layout.dim % count == 0 && layout.segmentStride % count == 0 && layout.segmentOffset % count == 0;
}

template <int kCount, class T>
__device__ __forceinline__ Packet<T, kCount> loadPacket(const T* row, int64_t packet) {
  return *reinterpret_cast<const Packet<T, kCount>*>(row + packet * kCount);
}

// What is absent has one value throughout.
template <int kCount, class T>
__device__ __forceinline__ Packet<T, kCount> loadPacketOr(const T* row, int64_t packet, double absent) {
  if (row) return loadPacket<kCount>(row, packet);
  Packet<T, kCount> same;
#pragma unroll
  for (int i = 0; i < kCount; ++i) same.at[i] = static_cast<T>(static_cast<Compute<T>>(absent));
  return same;
}

// One row each of kTensors tensors, null where absent.
template <int kTensors, class T>
struct RowAddresses {
  const T* rows[kTensors];
  double absent[kTensors];
};

// The halves of a word are taken apart where they are used: registers hold packets, not their elements.
template <int kCount, class T>
__device__ __forceinline__ Compute<T> element(const Packet<T, kCount>& packet, int i) {
  if constexpr (std::is_same_v<T, BFloat16> && kCount % 2 == 0) {
    uint32_t words[kCount / 2];
    memcpy(words, &packet, sizeof(packet));
    return floatOf(i % 2 ? words[i / 2] & 0xffff0000u : words[i / 2] << 16);
  } else {
    return static_cast<Compute<T>>(packet.at[i]);
  }
}

// A thread's packets of the row: number `lane` of each `lanes`. walk calls body(step, packet, its packets of the
// tensors). The first kOwn tensors are the row's own; the others, which many rows share, are read on every walk: they
// are near.
template <int kTensors, int kOwn, int kCount, int kSteps, class T>
class RowPackets {
 public:
  __device__ __forceinline__ RowPackets(const RowAddresses<kTensors, T>& from, int lane, int lanes, int64_t packets)
      : from_(from), lane_(lane), lanes_(lanes), packets_(packets) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {  // all are asked for before any is waited for
      const int packet = step * lanes_ + lane_;
      if (packet >= packets_) continue;
#pragma unroll
      for (int t = 0; t < kOwn; ++t) kept_[step][t] = load(t, packet);
    }
  }
  template <class Body>
  __device__ __forceinline__ void walk(const Body& body) {
    Packet<T, kCount> packets[kTensors];
    if constexpr (kSteps == 0) {
      for (int64_t packet = lane_; packet < packets_; packet += lanes_) {
#pragma unroll
        for (int t = 0; t < kTensors; ++t) packets[t] = load(t, packet);
        body(0, packet, packets);
      }
    } else {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int packet = step * lanes_ + lane_;
        if (packet >= packets_) continue;
#pragma unroll
        for (int t = 0; t < kTensors; ++t) packets[t] = t < kOwn ? kept_[step][t] : load(t, packet);
        body(step, packet, packets);
      }
    }
  }

 private:
  __device__ __forceinline__ Packet<T, kCount> load(int tensor, int64_t packet) const {
    return loadPacketOr<kCount>(from_.rows[tensor], packet, from_.absent[tensor]);
  }

  RowAddresses<kTensors, T> from_;
  Packet<T, kCount> kept_[kSteps ? kSteps : 1][kOwn];
  int lane_, lanes_;
  std::conditional_t<kSteps == 0, int64_t, int> packets_;
};

// What to take off each of kValues numbers per element. The mean of what the mean leaves is taken off as well, so that
// a large common offset costs no digits.
template <int kValues, class C>
struct Centre {
  C mean[kValues] = {}, rest[kValues] = {};
  __device__ __forceinline__ void apply(C (&values)[kValues]) const {
#pragma unroll
    for (int v = 0; v < kValues; ++v) values[v] = (values[v] - mean[v]) - rest[v];
  }
};

// of(packets of the tensors, i, values) computes the numbers of element i.
template <int kCount, int kValues, class C, class Row, class Of>
__device__ __forceinline__ Centre<kValues, C> centreOf(Row& row, C dim, int lanes, const Of& of,
                                                       WarpTotals<C, kValues>& warps) {
  Centre<kValues, C> centre;
#pragma unroll
  for (int pass = 0; pass < 2; ++pass) {
    C totals[kValues] = {};
    row.walk([&](int, int64_t, const auto& packets) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        C values[kValues];
        of(packets, i, values);
        centre.apply(values);
#pragma unroll
        for (int v = 0; v < kValues; ++v) totals[v] += values[v];
      }
    });
    joinGroup(totals, lanes, Plus<C>(), warps);
#pragma unroll
    for (int v = 0; v < kValues; ++v) (pass == 0 ? centre.mean : centre.rest)[v] = totals[v] / dim;
  }
  return centre;
}

template <class T>
T* dataOrNull(const Tensor& t) {
  return t ? t.data<T>() : nullptr;
}

}  // namespace flowmap::cuda
