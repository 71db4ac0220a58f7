// Clusters: a correct kernel and its planted bugs. Lines that a report must name are marked with the cases that must
// name them.
#include "cluster_launch.cuh"
#include "cuda/ptx/cluster.cuh"

using namespace flowmap::cuda::ptx;
using selftest::ClusterLaunch;
using selftest::Device;

namespace {

enum class Bug {
  none,
  unsynced,
  relaxed,
  overwrite,
  early,
  unwritten,
  beyond,
  beyondTheCluster,
  odd,
  ownSpace,
  arrivesTwice,
  waitsAlone,
  divergent,
  deadlock,
};

__device__ int loadPeer(uint32_t address) {
  int value;
  asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}

// Two rounds: each block reads what the next one wrote.
template <Bug bug>
__global__ void exchange(int* out) {
  __shared__ int slots[64];
  const uint32_t own = clusterRank(), next = (own + 1) % clusterBlocks();
  const int t = threadIdx.x;
  if (bug == Bug::unsynced) {
    // All blocks have started and written something; only the second write is not waited for.
    slots[t] = -1;
    clusterArrive();
    clusterWait();
  }
  int sum = 0;
  for (int round = 0; round < 2; ++round) {
    if (bug != Bug::unwritten || t < 32) slots[t] = 100 * round + int(own);  // [unsynced] [relaxed] [overwrite]
    if (bug == Bug::relaxed) {
      asm volatile("barrier.cluster.arrive.relaxed;" ::: "memory");
      clusterWait();
    } else if (bug != Bug::unsynced) {
      clusterArrive();
      clusterWait();
    }
    const int offset = bug == Bug::beyond ? 256 : bug == Bug::odd ? 2 : 0;
    const uint32_t at = clusterAddress(slots, next) + 4 * ((t + 40) % 64) + offset;
    sum += loadPeer(at);  // [unsynced] [relaxed] [overwrite] [early] [unwritten] [beyond] [odd]
    if (bug == Bug::overwrite || (bug == Bug::early && round == 1)) continue;
    clusterArrive();
    clusterWait();
  }
  out[blockIdx.x * 64 + t] = sum;
}

// Block 1 reads what block 0 has, which leaves soon or, by chance, late.
template <bool Late>
__global__ void leaves(int* out) {
  __shared__ int value;
  if (threadIdx.x == 0) value = 3;
  clusterArrive();
  clusterWait();
  int sum = 0;
  if (clusterRank() == 1) sum = loadPeer(clusterAddress(&value, 0));  // [lateExit]
  for (int i = 0; i < 10; ++i) {
    if (clusterRank() == Late) continue;
    __syncthreads();
    if (!Late) sum += loadPeer(clusterAddress(&value, 0));  // [exit]
  }
  out[blockIdx.x * 64 + threadIdx.x] = sum;
}

// Block 0 writes into block 1 before that is known to run.
template <bool Missing>
__global__ void starts(int* out) {
  __shared__ int value;
  if (!Missing) {
    clusterArrive();
    clusterWait();
  }
  if (clusterRank() == 0 && threadIdx.x == 0) {
    asm volatile("st.shared::cluster.u32 [%0], 5;" ::"r"(clusterAddress(&value, 1)) : "memory");  // [noStart]
  }
  clusterArrive();
  clusterWait();
  if (clusterRank() == 1) out[threadIdx.x] = value;
}

template <Bug bug>
__global__ void misuse(int* out) {
  __shared__ int value;
  if (threadIdx.x == 0) value = 1;
  clusterArrive();
  clusterWait();
  int read = 0;
  if (bug == Bug::beyondTheCluster) read = loadPeer(clusterAddress(&value, 2));  // [beyondTheCluster]
  if (bug == Bug::ownSpace) {
    const uint32_t at = clusterAddress(&value, clusterRank() ^ 1);
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(read) : "r"(at) : "memory");  // [ownSpace]
  }
  if (bug == Bug::arrivesTwice) {
    clusterArrive();
    asm volatile("barrier.cluster.arrive;" ::: "memory");  // [arrivesTwice]
  }
  if (bug == Bug::waitsAlone) asm volatile("barrier.cluster.wait;" ::: "memory");  // [waitsAlone]
  if (bug == Bug::divergent) {
    if (threadIdx.x % 2)
      asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");  // [divergent]
    else
      asm volatile("barrier.cluster.arrive.aligned;" ::: "memory");  // [divergent]
    clusterWait();
  }
  if (bug == Bug::deadlock) {
    if (clusterRank() == 0 && threadIdx.x >= 32) {
      __syncthreads();  // [deadlock]
    } else {
      clusterArrive();
      asm volatile("barrier.cluster.wait;" ::: "memory");  // [deadlock]
    }
  }
  clusterArrive();
  clusterWait();
  out[blockIdx.x * 64 + threadIdx.x] = read;
}

// Blocks of one cluster meet in global memory, with and without the barrier.
template <bool Missing>
__global__ void throughGlobal(int* out, int* scratch) {
  scratch[blockIdx.x * 64 + threadIdx.x] = int(blockIdx.x);  // [globalWithoutBarrier]
  if (!Missing) {
    clusterArrive();
    clusterWait();
  }
  out[blockIdx.x * 64 + threadIdx.x] = scratch[(blockIdx.x ^ 1) * 64 + threadIdx.x];  // [globalWithoutBarrier]
}

template <Bug bug>
bool runExchange() {
  Device<int> out(4 * 64);
  ClusterLaunch{4, 64, 4}(exchange<bug>, out.data);
  const std::vector<int> got = out.read();
  bool right = true;
  for (int i = 0; i < 256; ++i) right &= got[i] == 100 + 2 * ((i / 64 + 1) % 4);
  return right;
}
template <Bug bug>
bool runMisuse() {
  Device<int> out(2 * 64);
  ClusterLaunch{2, 64, 2}(misuse<bug>, out.data);
  return out.read()[0] == 0;
}
template <bool Late>
bool runLeaves() {
  Device<int> out(2 * 64);
  ClusterLaunch{2, 64, 2}(leaves<Late>, out.data);
  return true;
}
template <bool Missing>
bool runStarts() {
  Device<int> out(64);
  ClusterLaunch{2, 64, 2}(starts<Missing>, out.data);
  return out.read()[63] == 5;
}
template <bool Missing>
bool runThroughGlobal() {
  Device<int> out(4 * 64), scratch(4 * 64);
  ClusterLaunch{4, 64, 2}(throughGlobal<Missing>, out.data, scratch.data);
  return out.read()[0] == 1;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"exchange", runExchange<Bug::none>},
                             {"unsynced", runExchange<Bug::unsynced>},
                             {"relaxed", runExchange<Bug::relaxed>},
                             {"overwrite", runExchange<Bug::overwrite>},
                             {"early", runExchange<Bug::early>},
                             {"exit", runLeaves<false>},
                             {"lateExit", runLeaves<true>},
                             {"start", runStarts<false>},
                             {"noStart", runStarts<true>},
                             {"unwritten", runExchange<Bug::unwritten>},
                             {"beyond", runExchange<Bug::beyond>},
                             {"odd", runExchange<Bug::odd>},
                             {"correctUse", runMisuse<Bug::none>},
                             {"beyondTheCluster", runMisuse<Bug::beyondTheCluster>},
                             {"ownSpace", runMisuse<Bug::ownSpace>},
                             {"arrivesTwice", runMisuse<Bug::arrivesTwice>},
                             {"waitsAlone", runMisuse<Bug::waitsAlone>},
                             {"divergent", runMisuse<Bug::divergent>},
                             {"deadlock", runMisuse<Bug::deadlock>},
                             {"throughGlobal", runThroughGlobal<false>},
                             {"globalWithoutBarrier", runThroughGlobal<true>}},
                            count, arguments);
}
