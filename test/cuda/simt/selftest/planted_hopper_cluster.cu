// Blocks of a cluster that bring each other tiles and tell each other's mbarriers, and what is commonly forgotten.
// Lines that a report must name are marked with the cases that must name them.
#include "../../conformance/hopper_tensors.cuh"
#include "cluster_launch.cuh"
#include "cuda/hopper/tma.cuh"
#include "cuda/ptx/cluster.cuh"

using namespace flowmap::cuda::hopper;
using flowmap::cuda::ptx::clusterAddress;
using flowmap::cuda::ptx::clusterArrive;
using flowmap::cuda::ptx::clusterRank;
using flowmap::cuda::ptx::clusterWait;
using hopper_kernels::tensorMap;
using selftest::ClusterLaunch;
using selftest::Device;

namespace {

enum class Bug { none, noStart, noInitFence, noProxyFence, sourceReused, leaves, beyondTheCluster };

// Two blocks: each sends the other what it has, then block 0 brings both a box.
template <Bug bug>
__global__ void exchange(const __grid_constant__ CUtensorMap map, float* out) {
  __shared__ alignas(128) float mine[32], theirs[32], box[4][8];
  __shared__ Mbarrier came, brought, read;
  const uint32_t other = clusterRank() ^ 1;
  const int t = threadIdx.x;
  if (t == 0) {
    mbarrierInit(&came, 1), mbarrierInit(&brought, 1), mbarrierInit(&read, 32);  // [noInitFence]
    if (bug != Bug::noInitFence) fenceMbarrierInit();
  }
  if (bug == Bug::noInitFence) __syncthreads();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
  if (bug != Bug::noStart) clusterWait();
  mine[t] = float(32 * clusterRank() + t);  // [noProxyFence]
  if (bug != Bug::noProxyFence) fenceProxyAsync();
  __syncwarp();
  if (t == 0) {
    mbarrierArriveExpect(&came, sizeof mine);
    if (bug == Bug::noStart) mbarrierArriveRemote(clusterAddress(&read, other));  // [noStart]
    // [noInitFence] [noProxyFence] [sourceReused]
    bulkSend(clusterAddress(theirs, other), mine, sizeof mine, clusterAddress(&came, other));
  }
  if (bug == Bug::noStart) clusterWait();
  if (bug == Bug::sourceReused && t == 0) mine[0] = 0;  // [sourceReused]
  mbarrierWait(&came, 0);
  const float value = theirs[31 - t];
  if (bug == Bug::leaves && clusterRank() == 1) return;
  // Where both have arrived, both have read.
  mbarrierArriveRemote(clusterAddress(&read, other));
  while (!mbarrierTryWaitCluster(&read, 0)) {  // [leaves]
  }
  if (t == 0) mbarrierArriveExpect(&brought, sizeof box);
  clusterArrive();
  clusterWait();
  if (clusterRank() == 0 && t == 0) {
    const uint16_t blocks = bug == Bug::beyondTheCluster ? 0b101 : 0b11;
    tmaLoadMulticast(box, &map, Box<2>{{8, 1}}, &brought, blocks);  // [beyondTheCluster]
  }
  mbarrierWait(&brought, 0);
  out[blockIdx.x * 32 + t] = value + box[t / 8][t % 8];
  clusterArrive();
  clusterWait();
}

template <Bug bug>
bool run() {
  std::vector<float> in(16 * 8);
  for (size_t i = 0; i < in.size(); ++i) in[i] = float(i);
  Device<float> source(in), out(64);
  const CUtensorMap map = tensorMap(source.data, {16, 8}, {8, 4}, 0);
  ClusterLaunch{2, 32, 2}(exchange<bug>, map, out.data);
  const std::vector<float> got = out.read();
  bool right = true;
  for (int i = 0; i < 64; ++i) {
    const int t = i % 32;
    right &= got[i] == float(32 * (1 - i / 32) + 31 - t) + in[(1 + t / 8) * 16 + 8 + t % 8];
  }
  return right;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"exchange", run<Bug::none>},
                             {"noStart", run<Bug::noStart>},
                             {"noInitFence", run<Bug::noInitFence>},
                             {"noProxyFence", run<Bug::noProxyFence>},
                             {"sourceReused", run<Bug::sourceReused>},
                             {"leaves", run<Bug::leaves>},
                             {"beyondTheCluster", run<Bug::beyondTheCluster>}},
                            count, arguments);
}
