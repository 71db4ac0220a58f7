// The second rung for Hopper (sm_90a): bulk copies, which one thread issues. Tensors (TMA): a box goes to or comes from
// shared memory as its tensor map says; what lies outside of the tensor is read as zero and not written. Loads end at
// an mbarrier, stores in groups of their thread. Shared memory is aligned to 128 bytes, swizzled to 8 rows of the
// swizzle.
#pragma once

#include "cuda/hopper/barrier.cuh"

namespace flowmap::cuda::hopper {

/** Coordinates of a box in its tensor, the contiguous dimension first; may be negative. */
template <int Rank>
struct Box {
  static_assert(Rank >= 1 && Rank <= 5);
  int at[Rank];
};

/** Brings a tensor map nearer; maps are kernel parameters, __grid_constant__ const. */
__device__ __forceinline__ void prefetchTensorMap(const void* map) {
  asm volatile("prefetch.tensormap [%0];\n" ::"l"(map) : "memory");
}

// ---- tensors ----

/** The bytes of the whole box, also what of it is outside, come to the barrier. */
template <int Rank>
__device__ __forceinline__ void tmaLoad(void* shared, const void* map, Box<Rank> box, Mbarrier* barrier) {
  if constexpr (Rank == 1) {
    asm volatile(
        "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3}], [%2];\n" ::"r"(
            sharedAddress(shared)),
        "l"(map), "r"(sharedAddress(barrier)), "r"(box.at[0])
        : "memory");
  } else if constexpr (Rank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];\n" ::
            "r"(sharedAddress(shared)),
        "l"(map), "r"(sharedAddress(barrier)), "r"(box.at[0]), "r"(box.at[1])
        : "memory");
  } else if constexpr (Rank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], "
        "[%2];\n" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(sharedAddress(barrier)), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2])
        : "memory");
  } else if constexpr (Rank == 4) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
        "[%2];\n" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(sharedAddress(barrier)), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2]), "r"(box.at[3])
        : "memory");
  } else if constexpr (Rank == 5) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], "
        "[%2];\n" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(sharedAddress(barrier)), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2]), "r"(box.at[3]),
        "r"(box.at[4])
        : "memory");
  }
}

/** To the same place of all blocks of the cluster in `blocks` (a bit for each rank), each told at the same place. */
template <int Rank>
__device__ __forceinline__ void tmaLoadMulticast(void* shared, const void* map, Box<Rank> box, Mbarrier* barrier,
                                                 uint16_t blocks) {
  if constexpr (Rank == 1) {
    asm volatile(
        "cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, "
        "{%4}], [%2], %3;\n" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(sharedAddress(barrier)), "h"(blocks), "r"(box.at[0])
        : "memory");
  } else if constexpr (Rank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, "
        "{%4, %5}], [%2], %3;\n" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(sharedAddress(barrier)), "h"(blocks), "r"(box.at[0]), "r"(box.at[1])
        : "memory");
  } else if constexpr (Rank == 3) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, "
        "{%4, %5, %6}], [%2], %3;\n" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(sharedAddress(barrier)), "h"(blocks), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2])
        : "memory");
  } else if constexpr (Rank == 4) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, "
        "{%4, %5, %6, %7}], [%2], %3;\n" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(sharedAddress(barrier)), "h"(blocks), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2]),
        "r"(box.at[3])
        : "memory");
  } else if constexpr (Rank == 5) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, "
        "{%4, %5, %6, %7, %8}], [%2], %3;\n" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(sharedAddress(barrier)), "h"(blocks), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2]),
        "r"(box.at[3]), "r"(box.at[4])
        : "memory");
  }
}

template <int Rank>
__device__ __forceinline__ void tmaStore(const void* map, Box<Rank> box, const void* shared) {
  if constexpr (Rank == 1) {
    asm volatile(
        "cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [%1, {%2}], [%0];\n" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(box.at[0])
        : "memory");
  } else if constexpr (Rank == 2) {
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%1, {%2, %3}], [%0];\n" ::"r"(sharedAddress(shared)),
        "l"(map), "r"(box.at[0]), "r"(box.at[1])
        : "memory");
  } else if constexpr (Rank == 3) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%1, {%2, %3, %4}], [%0];\n" ::"r"(
                     sharedAddress(shared)),
                 "l"(map), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2])
                 : "memory");
  } else if constexpr (Rank == 4) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%1, {%2, %3, %4, %5}], [%0];\n" ::"r"(
                     sharedAddress(shared)),
                 "l"(map), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2]), "r"(box.at[3])
                 : "memory");
  } else if constexpr (Rank == 5) {
    asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [%1, {%2, %3, %4, %5, %6}], [%0];\n" ::"r"(
                     sharedAddress(shared)),
                 "l"(map), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2]), "r"(box.at[3]), "r"(box.at[4])
                 : "memory");
  }
}

/** Adds to what is there, in the tensor's type, in no given order. */
template <int Rank>
__device__ __forceinline__ void tmaAdd(const void* map, Box<Rank> box, const void* shared) {
  if constexpr (Rank == 1) {
    asm volatile("cp.reduce.async.bulk.tensor.1d.global.shared::cta.add.bulk_group [%1, {%2}], [%0];\n" ::"r"(
                     sharedAddress(shared)),
                 "l"(map), "r"(box.at[0])
                 : "memory");
  } else if constexpr (Rank == 2) {
    asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%1, {%2, %3}], [%0];\n" ::"r"(
                     sharedAddress(shared)),
                 "l"(map), "r"(box.at[0]), "r"(box.at[1])
                 : "memory");
  } else if constexpr (Rank == 3) {
    asm volatile("cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.bulk_group [%1, {%2, %3, %4}], [%0];\n" ::"r"(
                     sharedAddress(shared)),
                 "l"(map), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2])
                 : "memory");
  } else if constexpr (Rank == 4) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.bulk_group [%1, {%2, %3, %4, %5}], [%0];\n" ::"r"(
            sharedAddress(shared)),
        "l"(map), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2]), "r"(box.at[3])
        : "memory");
  } else if constexpr (Rank == 5) {
    asm volatile(
        "cp.reduce.async.bulk.tensor.5d.global.shared::cta.add.bulk_group [%1, {%2, %3, %4, %5, %6}], [%0];\n" ::"r"(
            sharedAddress(shared)),
        "l"(map), "r"(box.at[0]), "r"(box.at[1]), "r"(box.at[2]), "r"(box.at[3]), "r"(box.at[4])
        : "memory");
  }
}

// ---- plain memory: 16-byte aligned, a multiple of 16 bytes ----

__device__ __forceinline__ void bulkLoad(void* shared, const void* global, uint32_t bytes, Mbarrier* barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(
                   sharedAddress(shared)),
               "l"(global), "r"(bytes), "r"(sharedAddress(barrier))
               : "memory");
}

/** To another block of the cluster, which is told: both addresses are ptx::clusterAddress's. */
__device__ __forceinline__ void bulkSend(uint32_t to, const void* shared, uint32_t bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(to),
      "r"(sharedAddress(shared)), "r"(bytes), "r"(barrier)
      : "memory");
}

__device__ __forceinline__ void bulkStore(void* global, const void* shared, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;\n" ::"l"(global),
               "r"(sharedAddress(shared)), "r"(bytes)
               : "memory");
}

/** Adds float32 to what is there, in no given order. */
__device__ __forceinline__ void bulkAdd(float* global, const void* shared, uint32_t bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;\n" ::"l"(global),
               "r"(sharedAddress(shared)), "r"(bytes)
               : "memory");
}

// ---- groups of this thread's stores ----

__device__ __forceinline__ void bulkCommit() { asm volatile("cp.async.bulk.commit_group;\n" ::: "memory"); }

/** Until all but the last `Pending` groups are written. */
template <int Pending>
__device__ __forceinline__ void bulkWait() {
  asm volatile("cp.async.bulk.wait_group %0;\n" ::"n"(Pending) : "memory");
}

/** Until their shared memory may be used again; it must not go before that. */
template <int Pending>
__device__ __forceinline__ void bulkWaitRead() {
  asm volatile("cp.async.bulk.wait_group.read %0;\n" ::"n"(Pending) : "memory");
}

}  // namespace flowmap::cuda::hopper
