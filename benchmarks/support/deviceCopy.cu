// CUDA's own copy within the device and an empty kernel: the ceilings beside which benchmarks/gpu.ts puts the kernels.
// Arguments: bytes of a copy, copies timed, launches timed.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  std::exit(1);
}

__global__ void nothing(int*) {}

// The median of a few rounds, as the kernels are timed: many between two synchronisations.
template <class Work>
double secondsOf(int count, Work work) {
  std::vector<double> rounds;
  for (int round = 0; round < 8; ++round) {
    check(cudaDeviceSynchronize());
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < count; ++i) work(i);
    check(cudaDeviceSynchronize());
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (round > 0) rounds.push_back(taken.count() / count);
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds[rounds.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  const size_t bytes = std::strtoull(argv[1], nullptr, 10);
  const int copies = std::atoi(argv[2]), launches = std::atoi(argv[3]);
  char* from[2];
  char* to[2];
  for (int i = 0; i < 2; ++i) {
    check(cudaMalloc(reinterpret_cast<void**>(&from[i]), bytes));
    check(cudaMalloc(reinterpret_cast<void**>(&to[i]), bytes));
    check(cudaMemset(from[i], i, bytes));
  }
  const double copy = secondsOf(
      copies, [&](int i) { check(cudaMemcpyAsync(to[i % 2], from[i % 2], bytes, cudaMemcpyDeviceToDevice, 0)); });
  const double launch = secondsOf(launches, [&](int) {
    nothing<<<1, 32>>>(nullptr);
    check(cudaGetLastError());
  });
  int l2 = 0;
  check(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, 0));
  std::printf("{\"bytes\": %zu, \"copySeconds\": %.9g, \"launchSeconds\": %.9g, \"l2Bytes\": %d}\n", bytes, copy,
              launch, l2);
  return 0;
}
