// Kernels of mbarriers and of what goes with them: the ladder's first rung, and forms that it does not use. For the
// emulator's tests and for conformance.
#pragma once

#include "cuda/hopper/barrier.cuh"
#include "cuda/ptx/cluster.cuh"

namespace hopper_kernels {

using namespace flowmap::cuda::hopper;
using flowmap::cuda::ptx::clusterAddress;
using flowmap::cuda::ptx::clusterArrive;
using flowmap::cuda::ptx::clusterRank;
using flowmap::cuda::ptx::clusterWait;

__device__ void initialise(Mbarrier* barrier, uint32_t arrivals) {
  if (threadIdx.x == 0) mbarrierInit(barrier, arrivals);
  __syncthreads();
}

// Warp 0 fills two stages in turn, warp 1 empties them.
template <bool Tests>
__global__ void ring(const int* in, int* out) {
  __shared__ Mbarrier full[2], empty[2];
  __shared__ int slots[2][32];
  constexpr int kRounds = 7;
  for (int s = 0; s < 2; ++s) initialise(&full[s], 32), initialise(&empty[s], 32);
  const int lane = threadIdx.x % 32;
  const auto wait = [](Mbarrier* barrier, uint32_t parity) {
    if constexpr (Tests) {
      while (!mbarrierTest(barrier, parity)) {
      }
    } else {
      mbarrierWait(barrier, parity);
    }
  };
  int sum = 0;
  for (int round = 0; round < kRounds; ++round) {
    const int s = round % 2;
    const uint32_t parity = round / 2 % 2;
    if (threadIdx.x < 32) {
      wait(&empty[s], parity ^ 1);
      slots[s][lane] = in[32 * round + lane];
      mbarrierArrive(&full[s]);
    } else {
      wait(&full[s], parity);
      sum = sum * 3 + slots[s][31 - lane];
      mbarrierArrive(&empty[s]);
    }
  }
  if (threadIdx.x >= 32) out[lane] = sum;
}
// One thread: what completes a phase, and what does not.
__global__ void counts(int* out) {
  __shared__ Mbarrier b;
  int n = 0;
  mbarrierInit(&b, 5);
  const uint32_t at = sharedAddress(&b);
  mbarrierArriveMany(&b, 4);
  out[n++] = mbarrierTest(&b, 0);
  out[n++] = mbarrierTest(&b, 1);  // the phase before the first is over
  mbarrierArrive(&b);
  out[n++] = mbarrierTest(&b, 0);
  out[n++] = mbarrierTest(&b, 1);
  // Bytes, in any order.
  mbarrierExpect(&b, 48);
  mbarrierArriveMany(&b, 4);
  asm volatile("mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%0], 16;" ::"r"(at) : "memory");
  mbarrierArriveExpect(&b, 32);
  out[n++] = mbarrierTest(&b, 1);
  asm volatile("mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%0], 64;" ::"r"(at) : "memory");
  out[n++] = mbarrierTest(&b, 1);
  // By the state that an arrival gives.
  uint64_t state;
  asm volatile("mbarrier.arrive.noComplete.shared::cta.b64 %0, [%1], 2;" : "=l"(state) : "r"(at) : "memory");
  const auto over = [&] {
    uint32_t p;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(p)
                 : "r"(at), "l"(state)
                 : "memory");
    return int(p);
  };
  out[n++] = over();
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], 3;" ::"r"(at) : "memory");
  out[n++] = over();
  // Its memory becomes another one.
  mbarrierInvalidate(&b);
  mbarrierInit(&b, 1);
  out[n++] = mbarrierTest(&b, 1);
  uint64_t generic = reinterpret_cast<uint64_t>(&b);
  asm volatile("mbarrier.arrive.b64 _, [%0];" ::"l"(generic) : "memory");
  out[n++] = mbarrierTest(&b, 0);
}
// Blocks of a cluster arrive at each other's mbarriers, which order memory that both share.
template <bool Relaxed>
__global__ void remote(int* out) {
  __shared__ Mbarrier full;
  __shared__ int value[32];
  const uint32_t other = clusterRank() ^ 1;
  if (threadIdx.x == 0) {
    mbarrierInit(&full, 32);
    fenceMbarrierInit();
  }
  __syncthreads();
  if (Relaxed) {
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
    clusterWait();
  } else {
    clusterArrive();
    clusterWait();
  }
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(clusterAddress(&value[threadIdx.x], other)),
               "r"(int(100 * clusterRank() + threadIdx.x))
               : "memory");
  mbarrierArriveRemote(clusterAddress(&full, other));
  while (!mbarrierTryWaitCluster(&full, 0)) {
  }
  out[blockIdx.x * 32 + threadIdx.x] = value[31 - threadIdx.x];
  clusterArrive();
  clusterWait();
}
// What divides a block into roles: a warpgroup gives up registers that two others get.
__global__ void __launch_bounds__(384, 1) roles(int* out) {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  if (threadIdx.x / 128 == 0) {
    decreaseRegisters<40>();
  } else {
    increaseRegisters<232>();
  }
  if (electOne()) atomicAdd(out, 1);
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

}  // namespace hopper_kernels
