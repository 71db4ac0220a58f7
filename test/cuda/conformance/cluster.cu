// cluster.cuh, on devices that have clusters: a program of its own, of PTX for 9.0. Prints the device, then every case.
#include "cuda/ptx/cluster.cuh"

#include "record.cuh"

namespace conformance {

using namespace flowmap::cuda::ptx;

namespace {

constexpr int kBlocks = 8, kThreads = 64, kRounds = 3;

// Each block reads what all others wrote, round by round.
__global__ void __cluster_dims__(kBlocks, 1, 1) handAround(const uint32_t* in, uint32_t* out) {
  __shared__ double slots[2][kThreads];
  const int thread = threadIdx.x;
  uint32_t sum = 100 * clusterRank() + clusterBlocks();
  for (int round = 0; round < kRounds; ++round) {
    double* mine = slots[round % 2];
    mine[thread] = in[(round * gridDim.x + blockIdx.x) * kThreads + thread];
    clusterArrive();
    clusterWait();
    for (uint32_t i = 1; i < clusterBlocks(); ++i) {
      const uint32_t rank = (clusterRank() + i) % clusterBlocks();
      sum =
          sum * 5 + static_cast<uint32_t>(loadClusterDouble(clusterAddress(&mine[(thread + 7 * i) % kThreads], rank)));
    }
  }
  clusterArrive();
  clusterWait();
  out[blockIdx.x * kThreads + thread] = sum;
}

void recordClusters() {
  const Words in(Random(6).words(kRounds * 2 * kBlocks * kThreads)), out(2 * kBlocks * kThreads);
  handAround<<<2 * kBlocks, kThreads>>>(in.data(), out.data());
  out.record("clusterArrive, clusterWait, clusterAddress and loadClusterDouble");
}

}  // namespace

}  // namespace conformance

int main() {
  conformance::recordDevice();
  conformance::recordClusters();
  return 0;
}
