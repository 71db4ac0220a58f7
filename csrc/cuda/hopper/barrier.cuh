// The first rung for Hopper (sm_90a): mbarriers in shared memory, the fences that engines need, and what divides a
// block into roles: electing a lane, moving registers between warpgroups. Named barriers are in ptx/barrier.cuh.
#pragma once

#include "cuda/ptx/address.cuh"

namespace flowmap::cuda::hopper {

using ptx::sharedAddress;

/** Phases complete when all arrivals and all expected bytes have come. The first has parity 0. */
using Mbarrier = uint64_t;

// ---- life ----

/** `arrivals` of each phase, without bytes. By one thread; others may use it after fenceMbarrierInit and a barrier. */
__device__ __forceinline__ void mbarrierInit(Mbarrier* barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(sharedAddress(barrier)), "r"(arrivals) : "memory");
}

/** Its memory may be used for other things after this. */
__device__ __forceinline__ void mbarrierInvalidate(Mbarrier* barrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];\n" ::"r"(sharedAddress(barrier)) : "memory");
}

/** Shows what this thread initialised to the cluster (after its barrier) and to engines. */
__device__ __forceinline__ void fenceMbarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}

// ---- arrivals: what this thread did before is visible after a wait for the phase ----

__device__ __forceinline__ void mbarrierArrive(Mbarrier* barrier) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];\n" ::"r"(sharedAddress(barrier)) : "memory");
}

__device__ __forceinline__ void mbarrierArriveMany(Mbarrier* barrier, uint32_t count) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0], %1;\n" ::"r"(sharedAddress(barrier)), "r"(count)
               : "memory");
}

/** Arrives once, and makes the phase wait for as many bytes of asynchronous copies. */
__device__ __forceinline__ void mbarrierArriveExpect(Mbarrier* barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;\n" ::"r"(sharedAddress(barrier)),
               "r"(bytes)
               : "memory");
}

/** Makes the phase wait for more bytes, without arriving. */
__device__ __forceinline__ void mbarrierExpect(Mbarrier* barrier, uint32_t bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;\n" ::"r"(sharedAddress(barrier)), "r"(bytes)
               : "memory");
}

/** At the mbarrier of another block of the cluster: its address is ptx::clusterAddress's. */
__device__ __forceinline__ void mbarrierArriveRemote(uint32_t barrier) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void mbarrierArriveExpectRemote(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cluster.shared::cluster.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// ---- waits: for the end of the phase of this parity ----

__device__ __forceinline__ bool mbarrierTest(Mbarrier* barrier, uint32_t parity) {
  uint32_t over;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.test_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(over)
      : "r"(sharedAddress(barrier)), "r"(parity)
      : "memory");
  return over != 0;
}

/** Sleeps for a while at most: false says nothing but that it is to be tried again. */
__device__ __forceinline__ bool mbarrierTryWait(Mbarrier* barrier, uint32_t parity) {
  uint32_t over;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(over)
      : "r"(sharedAddress(barrier)), "r"(parity)
      : "memory");
  return over != 0;
}

__device__ __forceinline__ void mbarrierWait(Mbarrier* barrier, uint32_t parity) {
  while (!mbarrierTryWait(barrier, parity)) {
  }
}

/** The same, where threads of other blocks of the cluster arrive. */
__device__ __forceinline__ bool mbarrierTryWaitCluster(Mbarrier* barrier, uint32_t parity) {
  uint32_t over;
  asm volatile(
      "{\n.reg .pred p;\n"
      "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(over)
      : "r"(sharedAddress(barrier)), "r"(parity)
      : "memory");
  return over != 0;
}

__device__ __forceinline__ void mbarrierWaitCluster(Mbarrier* barrier, uint32_t parity) {
  while (!mbarrierTryWaitCluster(barrier, parity)) {
  }
}

/** Which place of a ring its n-th use has, and the parity of the phase that a wait for that use names. */
template <int Stages>
struct RingTurn {
  int stage;
  uint32_t parity;
  __device__ __forceinline__ explicit RingTurn(uint32_t n)
      : stage(static_cast<int>(n % Stages)), parity(n / Stages % 2) {}
};

// ---- engines and roles ----

/** Shows what this thread wrote, or knows others to have written, to bulk copies and wgmma that follow. */
__device__ __forceinline__ void fenceProxyAsync() { asm volatile("fence.proxy.async;\n" ::: "memory"); }

/** True in one lane of a warp whose lanes are all here. */
__device__ __forceinline__ bool electOne() {
  uint32_t chosen;
  asm volatile(
      "{\n.reg .pred p;\n"
      "elect.sync _|p, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, p;\n}\n"
      : "=r"(chosen)
      :
      : "memory");
  return chosen != 0;
}

/** A warpgroup's registers per thread: a multiple of 8, at most what others have given up. */
template <int Registers>
__device__ __forceinline__ void increaseRegisters() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(Registers));
}
template <int Registers>
__device__ __forceinline__ void decreaseRegisters() {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(Registers));
}

}  // namespace flowmap::cuda::hopper
