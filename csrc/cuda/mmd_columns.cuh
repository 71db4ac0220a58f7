// A thread's columns of the particles, in shared memory that no other thread looks at: slots are filled by asynchronous
// copies, in the order of units and steps, and what has been read is filled with what comes next, of the next unit too.
#pragma once

#include "cuda/mmd_plan.cuh"
#include "cuda/ptx/cp_async.cuh"

namespace flowmap::cuda {

// Copies the first `live` of 16 bytes, a multiple of kBytes, and clears the rest.
template <int kBytes>
__device__ __forceinline__ void mmdFetchPacket(char* to, const char* from, int64_t live) {
#pragma unroll
  for (int at = 0; at < kPacketBytes; at += kBytes) {
    if constexpr (kBytes == 2) {
      *reinterpret_cast<uint16_t*>(to + at) = at < live ? *reinterpret_cast<const uint16_t*>(from + at) : uint16_t{0};
    } else if constexpr (kBytes == kPacketBytes) {
      ptx::cpAsync<kBytes>(to, from);
    } else {
      ptx::cpAsyncZeroFill<kBytes>(to + at, at < live ? from + at : from, at < live ? kBytes : 0);
    }
  }
}

template <class T>
class MmdColumns {
 public:
  __device__ __forceinline__ MmdColumns(const MmdPlan& plan, const MmdRows<T>& rows, char* slots)
      : plan_(plan), rows_(rows), slots_(slots + threadIdx.x * kPacketBytes), nextUnit_(blockIdx.x) {
#pragma unroll 1
    for (int slot = 0; slot < plan.slots; ++slot) fetch();
  }

  // Units are blockIdx.x, then each gridDim.x further.
  __device__ __forceinline__ void enter(int64_t unit) {
    group_ = unit;
    const int64_t part = plan_.byParts.take(group_);
    group_ += plan_.firstGroup;
    begin_ = part * plan_.packetsPerPart + threadIdx.x;
    end_ = mine() ? min(plan_.packets, (part + 1) * plan_.packetsPerPart) : 0;
  }
  __device__ __forceinline__ void leave() {
    first_ += plan_.steps;
    while (first_ >= plan_.slots) first_ -= plan_.slots;
  }

  __device__ __forceinline__ int64_t group() const { return group_; }
  // Whether the thread has a packet in this step.
  __device__ __forceinline__ bool has(int step) const { return begin_ + step * plan_.columns < end_; }

  // Waits for a step of this unit of which `released` steps have been released.
  __device__ __forceinline__ void wait(int step, int released) const {
    switch (plan_.slots - 1 - step + released) {
      case 0:
        return ptx::cpAsyncWait<0>();
      case 1:
        return ptx::cpAsyncWait<1>();
      case 2:
        return ptx::cpAsyncWait<2>();
      case 3:
        return ptx::cpAsyncWait<3>();
      case 4:
        return ptx::cpAsyncWait<4>();
      case 5:
        return ptx::cpAsyncWait<5>();
      case 6:
        return ptx::cpAsyncWait<6>();
      default:
        return ptx::cpAsyncWait<7>();  // for more than it must
    }
  }

  __device__ __forceinline__ const char* at(int step) const {
    int slot = first_ + step;
    while (slot >= plan_.slots) slot -= plan_.slots;
    return slotAt(slot);
  }
  __device__ __forceinline__ MmdPacket<T> row(const char* step, int row) const {
    return *reinterpret_cast<const MmdPacket<T>*>(step + row * plan_.columns * kPacketBytes);
  }

  // The oldest step that has not been released is not needed any more: its slot is for the next one that is not here.
  __device__ __forceinline__ void release() { fetch(); }

  __device__ __forceinline__ void store(T* gradient, int count, int row, int step, const MmdPacket<T>& packet) const {
    const int64_t at = (begin_ + step * plan_.columns) * kMmdCount<T>;
    T* to = gradient + (group_ * count + row) * plan_.dim + at;
    if (plan_.width == kPacketBytes) {
      *reinterpret_cast<MmdPacket<T>*>(to) = packet;
    } else {
#pragma unroll
      for (int i = 0; i < kMmdCount<T>; ++i) {
        if (at + i < plan_.dim) to[i] = packet.at[i];
      }
    }
  }

 private:
  __device__ __forceinline__ bool mine() const { return static_cast<int>(threadIdx.x) < plan_.columns; }
  __device__ __forceinline__ char* slotAt(int slot) const {
    return slots_ + slot * plan_.rows * plan_.columns * kPacketBytes;
  }

  __device__ __forceinline__ void fetch() {
    if (nextUnit_ < plan_.units) {
      int64_t group = nextUnit_;
      const int64_t part = plan_.byParts.take(group);
      group += plan_.firstGroup;
      const int64_t packet = part * plan_.packetsPerPart + nextStep_ * plan_.columns + threadIdx.x;
      if (mine() && packet < min(plan_.packets, (part + 1) * plan_.packetsPerPart)) {
        fetchColumn(slotAt(nextSlot_), group, packet * kMmdCount<T>);
      }
      if (++nextStep_ == plan_.steps) {
        nextStep_ = 0;
        nextUnit_ += gridDim.x;
      }
    }
    if (++nextSlot_ == plan_.slots) nextSlot_ = 0;
    ptx::cpAsyncCommit();  // one group a step, also where it is empty: waits count them
  }

  __device__ __forceinline__ void fetchColumn(char* to, int64_t group, int64_t at) const {
    if (plan_.width == kPacketBytes)
      fetchPackets<kPacketBytes>(to, group, at);
    else if (sizeof(T) == 8)
      fetchPackets<8>(to, group, at);
    else if (sizeof(T) == 4 || plan_.width > 2)
      fetchPackets<4>(to, group, at);
    else
      fetchPackets<2>(to, group, at);
  }

  // Zeros where a tensor is absent.
  template <int kBytes>
  __device__ __forceinline__ void fetchPackets(char* to, int64_t group, int64_t at) const {
    const int stride = plan_.columns * kPacketBytes, particles = plan_.particles();
    const int64_t rowBytes = plan_.dim * static_cast<int>(sizeof(T)),
                  live = (plan_.dim - at) * static_cast<int>(sizeof(T));
#pragma unroll 1
    for (int row = 0; row < plan_.rows; row += row % particles == 0 ? plan_.m : plan_.n) {
      const bool ofX = row % particles == 0;
      const T* x = row < particles ? (ofX ? rows_.x : rows_.y) : (ofX ? rows_.tx : rows_.ty);
      const int count = ofX ? plan_.m : plan_.n;
      const char* from = reinterpret_cast<const char*>(x + (group * count * plan_.dim + at));
#pragma unroll 1
      for (int i = 0; i < count; ++i, to += stride, from += rowBytes) {
        if (x)
          mmdFetchPacket<kBytes>(to, from, live);
        else
          *reinterpret_cast<Bytes16*>(to) = {};
      }
    }
  }

  const MmdPlan& plan_;
  const MmdRows<T>& rows_;
  char* slots_;
  int64_t nextUnit_;
  int nextStep_ = 0, nextSlot_ = 0, first_ = 0;
  int64_t group_ = 0, begin_ = 0, end_ = 0;
};

}  // namespace flowmap::cuda
