// Clusters by the ISA's definitions: one small kernel per instruction, the special registers, what cooperative groups
// make of them, and which launches are refused.
#include "cuda/ptx/cluster.cuh"

#include <cooperative_groups.h>

#include "cluster_launch.cuh"

using namespace flowmap::cuda::ptx;
using selftest::ClusterLaunch;
using selftest::Device;

namespace {

// ---- special registers ----

constexpr int kRegisters = 15;

__device__ void writeRegisters(int* out) {
  int v[kRegisters];
  asm("mov.u32 %0, %%cluster_ctaid.x;" : "=r"(v[0]));
  asm("mov.u32 %0, %%cluster_ctaid.y;" : "=r"(v[1]));
  asm("mov.u32 %0, %%cluster_ctaid.z;" : "=r"(v[2]));
  asm("mov.u32 %0, %%cluster_nctaid.x;" : "=r"(v[3]));
  asm("mov.u32 %0, %%cluster_nctaid.y;" : "=r"(v[4]));
  asm("mov.u32 %0, %%cluster_nctaid.z;" : "=r"(v[5]));
  asm("mov.u32 %0, %%clusterid.x;" : "=r"(v[6]));
  asm("mov.u32 %0, %%clusterid.y;" : "=r"(v[7]));
  asm("mov.u32 %0, %%clusterid.z;" : "=r"(v[8]));
  asm("mov.u32 %0, %%nclusterid.x;" : "=r"(v[9]));
  asm("mov.u32 %0, %%nclusterid.y;" : "=r"(v[10]));
  asm("mov.u32 %0, %%nclusterid.z;" : "=r"(v[11]));
  v[12] = int(clusterRank());
  v[13] = int(clusterBlocks());
  asm("{ .reg .pred p; mov.pred p, %%is_explicit_cluster; selp.s32 %0, 1, 0, p; }" : "=r"(v[14]));
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  for (int i = 0; i < kRegisters; ++i) out[block * kRegisters + i] = v[i];
}
__global__ void registers(int* out) { writeRegisters(out); }
__global__ void __cluster_dims__(2, 1, 1) compiledRegisters(int* out) { writeRegisters(out); }

bool registersAre(const std::vector<int>& got, dim3 grid, dim3 cluster, int named) {
  bool right = true;
  for (unsigned z = 0; z < grid.z; ++z) {
    for (unsigned y = 0; y < grid.y; ++y) {
      for (unsigned x = 0; x < grid.x; ++x) {
        const unsigned cx = x % cluster.x, cy = y % cluster.y, cz = z % cluster.z;
        const unsigned expected[kRegisters] = {cx,
                                               cy,
                                               cz,
                                               cluster.x,
                                               cluster.y,
                                               cluster.z,
                                               x / cluster.x,
                                               y / cluster.y,
                                               z / cluster.z,
                                               grid.x / cluster.x,
                                               grid.y / cluster.y,
                                               grid.z / cluster.z,
                                               cx + cluster.x * (cy + cluster.y * cz),
                                               cluster.x * cluster.y * cluster.z,
                                               unsigned(named)};
        const int* mine = &got[(x + grid.x * (y + grid.y * z)) * kRegisters];
        for (int i = 0; i < kRegisters; ++i) right &= mine[i] == int(expected[i]);
      }
    }
  }
  return right;
}

bool runRegisters() {
  const dim3 grid(4, 6, 2), cluster(2, 3, 1);
  Device<int> out(48 * kRegisters);
  ClusterLaunch{grid, 1, cluster}(registers, out.data);
  return registersAre(out.read(), grid, cluster, 1);
}
bool runRegistersAlone() {
  Device<int> out(3 * kRegisters);
  registers<<<3, 1>>>(out.data);
  return registersAre(out.read(), 3, 1, 0);
}
bool runRegistersCompiled() {
  Device<int> out(6 * kRegisters);
  compiledRegisters<<<6, 1>>>(out.data);
  return registersAre(out.read(), 6, 2, 1);
}

// ---- mapa, getctarank, ld, st, atom, red ----

// Every block reads from the next one what that wrote: by 32-bit and by generic addresses, in one and more elements.
__global__ void readNext(int* out) {
  __shared__ __align__(16) int slots[4];
  const uint32_t next = (clusterRank() + 1) % clusterBlocks();
  if (threadIdx.x < 4) slots[threadIdx.x] = 100 * int(clusterRank()) + threadIdx.x;
  clusterArrive();
  clusterWait();
  int one, two[4], generic;
  const uint32_t at = clusterAddress(slots, next);
  asm volatile("ld.shared::cluster.u32 %0, [%1+4];" : "=r"(one) : "r"(at));
  asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(two[0]), "=r"(two[1]), "=r"(two[2]), "=r"(two[3])
               : "r"(at));
  uint64_t address;
  asm("mapa.u64 %0, %1, %2;" : "=l"(address) : "l"(reinterpret_cast<uint64_t>(slots)), "r"(next));
  generic = *reinterpret_cast<int*>(address + 8);
  int rank, rankGeneric, ownRank;
  asm("getctarank.shared::cluster.u32 %0, %1;" : "=r"(rank) : "r"(at));
  asm("getctarank.u64 %0, %1;" : "=r"(rankGeneric) : "l"(address));
  asm("getctarank.shared::cluster.u32 %0, %1;" : "=r"(ownRank) : "r"(sharedAddress(slots)));
  int spaces;
  asm("{ .reg .pred p, q, r;\n"
      "  isspacep.shared::cluster p, %1; isspacep.shared::cta q, %1; isspacep.global r, %1;\n"
      "  selp.s32 %0, 1, 0, p; @q add.s32 %0, %0, 2; @r add.s32 %0, %0, 4; }"
      : "=r"(spaces)
      : "l"(address));
  clusterArrive();
  const int values[] = {one, two[0] + two[1] + two[2] + two[3], generic, rank, rankGeneric, ownRank, spaces};
  if (threadIdx.x == 0) {
    for (int i = 0; i < 7; ++i) out[blockIdx.x * 7 + i] = values[i];
  }
  clusterWait();
}
bool runReadNext() {
  Device<int> out(8 * 7);
  ClusterLaunch{8, 32, 4}(readNext, out.data);
  const std::vector<int> got = out.read();
  bool right = true;
  for (int block = 0; block < 8; ++block) {
    const int own = block % 4, next = (own + 1) % 4, base = 100 * next;
    const int expected[] = {base + 1, 4 * base + 6, base + 2, next, next, own, 1};
    for (int i = 0; i < 7; ++i) right &= got[block * 7 + i] == expected[i];
  }
  return right;
}

__global__ void writeNext(int* out) {
  __shared__ int slots[33];
  const uint32_t next = (clusterRank() + 1) % clusterBlocks();
  if (threadIdx.x == 0) slots[32] = 0;
  clusterArrive();
  clusterWait();
  const uint32_t at = clusterAddress(slots, next);
  asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(at + 4 * threadIdx.x), "r"(int(1000 * blockIdx.x + threadIdx.x))
               : "memory");
  // All blocks count in the first one's memory.
  const uint32_t count = clusterAddress(&slots[32], 0);
  asm volatile("red.shared::cluster.add.u32 [%0], 1;" ::"r"(count) : "memory");
  int before;
  asm volatile("atom.shared::cluster.add.u32 %0, [%1], 1;" : "=r"(before) : "r"(count) : "memory");
  clusterArrive();
  clusterWait();
  out[blockIdx.x * 33 + threadIdx.x] = before < 8 * 32 * 2 ? slots[threadIdx.x] : -1;
  if (threadIdx.x == 0) out[blockIdx.x * 33 + 32] = slots[32];
}
bool runWriteNext() {
  Device<int> out(8 * 33);
  ClusterLaunch{8, 32, 8}(writeNext, out.data);
  const std::vector<int> got = out.read();
  bool right = got[32] == 8 * 32 * 2;
  for (int block = 0; block < 8; ++block) {
    for (int i = 0; i < 32; ++i) right &= got[block * 33 + i] == 1000 * ((block + 7) % 8) + i;
    right &= block == 0 || got[block * 33 + 32] == 0;
  }
  return right;
}

// ---- barrier.cluster ----

// Halves of the barrier with work of the block in between; relaxed and aligned forms.
__global__ void splitBarrier(int* out) {
  __shared__ int value, other;
  asm volatile("barrier.cluster.arrive.relaxed.aligned;");
  if (threadIdx.x == 0) value = 10 + int(clusterRank());
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
  __syncthreads();
  clusterArrive();
  if (threadIdx.x == 0) other = 5;
  __syncthreads();
  const int sum = other;
  clusterWait();
  int read;
  asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(read) : "r"(clusterAddress(&value, clusterRank() ^ 1)));
  clusterArrive();
  clusterWait();
  out[blockIdx.x * 64 + threadIdx.x] = read + sum;
}
bool runSplitBarrier() {
  Device<int> out(4 * 64);
  ClusterLaunch{4, 64, 2}(splitBarrier, out.data);
  const std::vector<int> got = out.read();
  bool right = true;
  for (int i = 0; i < 256; ++i) right &= got[i] == 15 + ((i / 64) % 2 ^ 1);
  return right;
}

// Threads that have exited are not waited for.
__global__ void someExit(int* out) {
  if (threadIdx.x >= 32 || (clusterRank() == 1 && threadIdx.x % 2)) return;
  clusterArrive();
  clusterWait();
  atomicAdd(out, 1);
}
bool runSomeExit() {
  Device<int> out(1);
  ClusterLaunch{2, 64, 2}(someExit, out.data);
  return out.read()[0] == 48;
}

// A flag in another block's memory orders what a fence of the cluster covers.
__global__ void clusterFlag(int* out) {
  __shared__ int flag, value;
  if (threadIdx.x == 0) flag = 0;
  clusterArrive();
  clusterWait();
  if (clusterRank() == 1 && threadIdx.x == 0) {
    const uint32_t at = clusterAddress(&value, 0), to = clusterAddress(&flag, 0);
    asm volatile("st.shared::cluster.u32 [%0], 77;" ::"r"(at) : "memory");
    asm volatile("fence.acq_rel.cluster;" ::: "memory");
    asm volatile("red.relaxed.cluster.shared::cluster.add.u32 [%0], 1;" ::"r"(to) : "memory");
  }
  if (clusterRank() == 0 && threadIdx.x == 0) {
    while (atomicAdd(&flag, 0) == 0) {
    }
    asm volatile("fence.acq_rel.cluster;" ::: "memory");
    *out = value;
  }
  clusterArrive();
  clusterWait();
}
bool runClusterFlag() {
  Device<int> out(1);
  ClusterLaunch{2, 32, 2}(clusterFlag, out.data);
  return out.read()[0] == 77;
}

// ---- cooperative groups, dynamic shared memory, global memory within a cluster ----

__global__ void groups(float* out, float* exchange) {
  extern __shared__ float tile[];
  const auto cluster = cooperative_groups::this_cluster();
  for (int i = threadIdx.x; i < 256; i += blockDim.x) tile[i] = float(blockIdx.x * 256 + i);
  exchange[blockIdx.x * blockDim.x + threadIdx.x] = float(threadIdx.x);
  cluster.sync();
  float sum = 0;
  for (unsigned rank = 0; rank < cluster.num_blocks(); ++rank) {
    const float* theirs = cluster.map_shared_rank(tile, rank);
    for (int i = threadIdx.x; i < 256; i += blockDim.x) sum += theirs[i];
  }
  const unsigned next = blockIdx.x ^ 1;
  out[blockIdx.x * blockDim.x + threadIdx.x] = sum + exchange[next * blockDim.x + threadIdx.x];
  cluster.sync();
}
bool runGroups() {
  Device<float> out(4 * 128), exchange(4 * 128);
  ClusterLaunch{4, 128, 2, 1024}(groups, out.data, exchange.data);
  const std::vector<float> got = out.read();
  bool right = true;
  for (int block = 0; block < 4; ++block) {
    for (int t = 0; t < 128; ++t) {
      const int first = block / 2 * 2;
      float sum = float(t);
      for (int b = first; b < first + 2; ++b) sum += float(b * 256 + t) + float(b * 256 + t + 128);
      right &= got[block * 128 + t] == sum;
    }
  }
  return right;
}

// ---- launches ----

__global__ void nothing() {}
__global__ void __cluster_dims__(2, 1, 1) pairsOnly() {}

bool refused(cudaError_t error, cudaError_t expected) {
  cudaGetLastError();
  return error == expected;
}
bool runLaunches() {
  bool right = true;
  const cudaError_t invalid = cudaErrorInvalidClusterSize;
  right &= ClusterLaunch{8, 32, 8}(nothing) == cudaSuccess;
  right &= refused(ClusterLaunch{7, 32, 2}(nothing), invalid);
  right &= refused(ClusterLaunch{dim3(4, 3), 32, dim3(2, 2)}(nothing), invalid);
  right &= refused(ClusterLaunch{16, 32, 16}(nothing), invalid);
  right &= refused(ClusterLaunch{16, 32, dim3(0, 1, 1)}(nothing), invalid);
  right &= cudaFuncSetAttribute(nothing, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) == cudaSuccess;
  right &= ClusterLaunch{16, 32, 16}(nothing) == cudaSuccess;
  right &= refused(ClusterLaunch{32, 32, 32}(nothing), invalid);
  right &= ClusterLaunch{4, 32, 2}(pairsOnly) == cudaSuccess;
  right &= refused(ClusterLaunch{4, 32, 4}(pairsOnly), invalid);
  pairsOnly<<<3, 32>>>();
  right &= refused(cudaGetLastError(), invalid);
  int clusters = 0;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {4, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = 4, config.blockDim = 1024, config.attrs = &attribute, config.numAttrs = 1;
  right &= cudaOccupancyMaxActiveClusters(&clusters, nothing, &config) == cudaSuccess;
  return right && clusters == 8 * 2 / 4;
}

// Run with SIMT_SM=80 too: there are no clusters then.
bool runUnsupported() { return refused(ClusterLaunch{2, 32, 2}(nothing), cudaErrorNotSupported); }

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"registers", runRegisters},
                             {"registersAlone", runRegistersAlone},
                             {"registersCompiled", runRegistersCompiled},
                             {"readNext", runReadNext},
                             {"writeNext", runWriteNext},
                             {"splitBarrier", runSplitBarrier},
                             {"someExit", runSomeExit},
                             {"clusterFlag", runClusterFlag},
                             {"groups", runGroups},
                             {"launches", runLaunches},
                             {"unsupported", runUnsupported}},
                            count, arguments);
}
