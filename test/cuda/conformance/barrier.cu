// barrier.cuh: two warps hand values to and fro through two named barriers.
#include "cuda/ptx/barrier.cuh"

#include "record.cuh"

namespace conformance {

using namespace flowmap::cuda::ptx;

namespace {

constexpr int kFull = 1, kEmpty = 2, kRounds = 5;

__global__ void handOver(const uint32_t* in, uint32_t* out) {
  __shared__ uint32_t slots[32];
  const int lane = threadIdx.x % 32;
  uint32_t sum = 0;
  for (int round = 0; round < kRounds; ++round) {
    if (threadIdx.x < 32) {
      if (round > 0) barrierSync<64>(kEmpty);
      slots[lane] = in[32 * round + lane];
      barrierArrive<64>(kFull);
    } else {
      barrierSync<64>(kFull);
      sum = sum * 5 + slots[31 - lane];
      if (round + 1 < kRounds) barrierArrive<64>(kEmpty);
    }
  }
  if (threadIdx.x >= 32) out[lane] = sum;
}

}  // namespace

void recordBarriers() {
  const Words in(Random(5).words(32 * kRounds)), out(32);
  handOver<<<1, 64>>>(in.data(), out.data());
  out.record("barrierSync and barrierArrive");
}

}  // namespace conformance
