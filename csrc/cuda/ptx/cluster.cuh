// Clusters of blocks (sm_90): who a block is among them, the barrier of all their threads, and the shared memory of
// another block, which must have started, and must not end before.
#pragma once

#include "cuda/ptx/address.cuh"

namespace flowmap::cuda::ptx {

__device__ __forceinline__ uint32_t clusterRank() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ uint32_t clusterBlocks() {
  uint32_t blocks;
  asm("mov.u32 %0, %%cluster_nctarank;\n" : "=r"(blocks));
  return blocks;
}

/** What threads did before they arrived is visible after the wait; each arrival needs its wait. */
__device__ __forceinline__ void clusterArrive() { asm volatile("barrier.cluster.arrive.release;\n" ::: "memory"); }
__device__ __forceinline__ void clusterWait() { asm volatile("barrier.cluster.wait.acquire;\n" ::: "memory"); }

/** Where block `rank` of the cluster has what lies at `shared` in this one. */
__device__ __forceinline__ uint32_t clusterAddress(const void* shared, uint32_t rank) {
  uint32_t address;
  asm("mapa.shared::cluster.u32 %0, %1, %2;\n" : "=r"(address) : "r"(sharedAddress(shared)), "r"(rank));
  return address;
}

__device__ __forceinline__ double loadClusterDouble(uint32_t address) {
  double value;
  asm volatile("ld.shared::cluster.f64 %0, [%1];\n" : "=d"(value) : "r"(address) : "memory");
  return value;
}

__device__ __forceinline__ float loadClusterFloat(uint32_t address) {
  float value;
  asm volatile("ld.shared::cluster.f32 %0, [%1];\n" : "=f"(value) : "r"(address) : "memory");
  return value;
}

__device__ __forceinline__ float4 loadClusterFloats(uint32_t address) {
  float4 values;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];\n"
               : "=f"(values.x), "=f"(values.y), "=f"(values.z), "=f"(values.w)
               : "r"(address)
               : "memory");
  return values;
}

__device__ __forceinline__ void storeClusterFloats(uint32_t address, float4 values) {
  asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};\n" ::"r"(address), "f"(values.x), "f"(values.y),
               "f"(values.z), "f"(values.w)
               : "memory");
}

}  // namespace flowmap::cuda::ptx
