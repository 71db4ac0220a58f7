// Kernels of bulk copies: boxes of tensors to and from shared memory, plain memory, blocks of a cluster; and of sums by
// vectors of atomics. For the emulator's tests and for conformance.
#pragma once

#include "cuda/hopper/tma.cuh"
#include "cuda/ptx/cluster.cuh"
#include "cuda/ptx/reduce.cuh"
#include "hopper_tensors.cuh"

namespace hopper_kernels {

using namespace flowmap::cuda::hopper;
using flowmap::cuda::ptx::clusterAddress;
using flowmap::cuda::ptx::clusterArrive;
using flowmap::cuda::ptx::clusterRank;
using flowmap::cuda::ptx::clusterWait;

constexpr int kBox = 2048;  // bytes at most

__device__ void start(Mbarrier* barrier) {
  if (threadIdx.x == 0) {
    mbarrierInit(barrier, 1);
    fenceMbarrierInit();
  }
  __syncthreads();
}

/** The box as it lies in shared memory. */
template <int Rank>
__global__ void load(const __grid_constant__ CUtensorMap map, Box<Rank> box, int bytes, unsigned char* out) {
  __shared__ alignas(1024) unsigned char tile[kBox];
  __shared__ Mbarrier full;
  start(&full);
  if (threadIdx.x == 0) {
    prefetchTensorMap(&map);
    mbarrierArriveExpect(&full, uint32_t(bytes));
    tmaLoad(tile, &map, box, &full);
  }
  mbarrierWait(&full, 0);
  for (int i = threadIdx.x; i < bytes; i += blockDim.x) out[i] = tile[i];
}

template <int Rank, bool Adds>
__global__ void store(const __grid_constant__ CUtensorMap map, Box<Rank> box, int bytes, const unsigned char* in) {
  __shared__ alignas(1024) unsigned char tile[kBox];
  for (int i = threadIdx.x; i < bytes; i += blockDim.x) tile[i] = in[i];
  fenceProxyAsync();
  __syncthreads();
  if (threadIdx.x == 0) {
    if (Adds)
      tmaAdd(&map, box, tile);
    else
      tmaStore(&map, box, tile);
    bulkCommit();
    bulkWaitRead<0>();
    bulkWait<0>();
  }
}

// ---- vectors of atomics ----

// All threads add to the same eight, four or two at once.
__global__ void addVectors(float* sums) {
  const float x = static_cast<float>(threadIdx.x + blockIdx.x * blockDim.x);
  flowmap::cuda::ptx::addToGlobal(sums, x, 2 * x, 3, -x);
  asm volatile("red.global.add.v2.f32 [%0+24], {%1, %2};\n" ::"l"(sums), "f"(x), "f"(1.0f) : "memory");
}

// ---- plain memory ----

__global__ void plain(const float* in, float* out, float* sums) {
  __shared__ alignas(16) float tile[64];
  __shared__ Mbarrier full;
  start(&full);
  if (threadIdx.x == 0) {
    mbarrierArriveExpect(&full, sizeof tile);
    bulkLoad(tile, in, 96, &full);
    bulkLoad(tile + 24, in + 24, sizeof tile - 96, &full);
  }
  mbarrierWait(&full, 0);
  tile[threadIdx.x] *= 2;
  fenceProxyAsync();
  __syncthreads();
  if (threadIdx.x == 0) {
    bulkStore(out, tile, sizeof tile);
    bulkCommit();
    bulkAdd(sums, tile, sizeof tile);
    bulkCommit();
    bulkWait<1>();
    out[0] = -1;
    bulkWaitRead<0>();
  }
}
// ---- clusters ----

// Each block sends the next one a tile, and tells it.
__global__ void send(float* out) {
  __shared__ alignas(16) float mine[32], theirs[32];
  __shared__ Mbarrier full;
  const uint32_t next = (clusterRank() + 1) % 4;
  start(&full);
  mine[threadIdx.x] = float(100 * clusterRank() + threadIdx.x);
  fenceProxyAsync();
  clusterArrive();
  clusterWait();
  if (threadIdx.x == 0) {
    mbarrierArriveExpectRemote(clusterAddress(&full, next), sizeof mine);
    bulkSend(clusterAddress(theirs, next), mine, sizeof mine, clusterAddress(&full, next));
  }
  mbarrierWait(&full, 0);
  out[blockIdx.x * 32 + threadIdx.x] = theirs[threadIdx.x];
  clusterArrive();
  clusterWait();
}
// Block 1 brings a box to blocks 0, 1 and 3.
__global__ void multicast(const __grid_constant__ CUtensorMap map, float* out) {
  __shared__ alignas(1024) float tile[8][16];
  __shared__ Mbarrier full;
  start(&full);
  const bool gets = clusterRank() != 2;
  if (gets && threadIdx.x == 0) mbarrierArriveExpect(&full, sizeof tile);
  clusterArrive();
  clusterWait();
  if (clusterRank() == 1 && threadIdx.x == 0) tmaLoadMulticast(tile, &map, Box<2>{{4, 2}}, &full, 0b1011);
  if (gets) mbarrierWait(&full, 0);
  for (int i = threadIdx.x; i < 128; i += 32) out[blockIdx.x * 128 + i] = gets ? tile[i / 16][i % 16] : -1;
  clusterArrive();
  clusterWait();
}

}  // namespace hopper_kernels
