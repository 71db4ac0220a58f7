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

// Each block leaves four floats of every thread with the next block, and takes what others have by four and by one.
__global__ void __cluster_dims__(kBlocks, 1, 1) leaveFloats(const uint32_t* in, float* out) {
  __shared__ float4 slots[kThreads];
  const int thread = threadIdx.x;
  const auto value = [&](int i) { return static_cast<float>(in[(blockIdx.x * kThreads + thread) * 4 + i] % 4096); };
  clusterArrive();
  clusterWait();
  const uint32_t next = (clusterRank() + 1) % clusterBlocks(), other = (clusterRank() + 3) % clusterBlocks();
  storeClusterFloats(clusterAddress(&slots[thread], next), float4{value(0), value(1), value(2), value(3)});
  clusterArrive();
  clusterWait();
  const float4 four = loadClusterFloats(clusterAddress(&slots[(thread + 5) % kThreads], other));
  const float one = loadClusterFloat(clusterAddress(&slots[thread].z, other));
  out[blockIdx.x * kThreads + thread] = four.x + 2 * four.y + 3 * four.z + 5 * four.w + 7 * one;
  clusterArrive();
  clusterWait();
}

void recordClusters() {
  const Words in(Random(6).words(kRounds * 2 * kBlocks * kThreads)), out(2 * kBlocks * kThreads);
  handAround<<<2 * kBlocks, kThreads>>>(in.data(), out.data());
  out.record("clusterArrive, clusterWait, clusterAddress and loadClusterDouble");
  const Words floats(Random(8).words(2 * kBlocks * kThreads * 4)), sums(2 * kBlocks * kThreads);
  leaveFloats<<<2 * kBlocks, kThreads>>>(floats.data(), reinterpret_cast<float*>(sums.data()));
  sums.record("storeClusterFloats, loadClusterFloats and loadClusterFloat");
}

}  // namespace

}  // namespace conformance

int main() {
  conformance::recordDevice();
  conformance::recordClusters();
  return 0;
}
