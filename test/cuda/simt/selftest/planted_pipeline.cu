// A double-buffered pipeline of asynchronous copies, and what is commonly forgotten in one. Lines that a report must
// name are marked with the cases that must name them.
#include "check.cuh"
#include "cuda/ptx/cp_async.cuh"

using namespace flowmap::cuda::ptx;

namespace {

enum class Bug { none, noWait, wrongGroup, noBarrierBeforeUse, noBarrierBeforeOverwrite, reuseOfSource };

constexpr int kThreads = 128, kSteps = 6, kTile = kThreads * 4;

// Each step brings a tile of 512 floats; every thread sums four that a thread of another warp brought.
template <Bug bug>
__global__ void pipeline(float* in, float* out) {
  __shared__ float4 buffers[2][kThreads];
  const int t = threadIdx.x, other = t ^ 33;
  cpAsync<16>(&buffers[0][t], in + 4 * t);  // [noWait] [wrongGroup] [reuseOfSource]
  cpAsyncCommit();
  if (bug == Bug::reuseOfSource) in[4 * t] = 0;  // [reuseOfSource]
  float sum = 0;
  for (int step = 0; step < kSteps; ++step) {
    const int next = step + 1;
    if (next < kSteps) cpAsync<16>(&buffers[next % 2][t], in + next * kTile + 4 * t);  // [noBarrierBeforeOverwrite]
    cpAsyncCommit();
    if (bug != Bug::noWait) cpAsyncWait<bug == Bug::wrongGroup ? 2 : 1>();
    if (bug != Bug::noBarrierBeforeUse) __syncthreads();
    const float4 v = buffers[step % 2][other];  // [noWait] [wrongGroup] [noBarrierBeforeUse] [noBarrierBeforeOverwrite]
    sum += v.x + 2 * v.y + 3 * v.z + 4 * v.w;
    if (bug != Bug::noBarrierBeforeOverwrite) __syncthreads();
  }
  out[t] = sum;
}

template <Bug bug>
bool run() {
  selftest::Random random;
  std::vector<float> in(kSteps * kTile);
  for (float& x : in) x = random.sixteenth();
  selftest::Device<float> source(in), out(kThreads);
  pipeline<bug><<<1, kThreads>>>(source.data, out.data);
  const std::vector<float> results = out.read();
  for (int t = 0; t < kThreads; ++t) {
    float sum = 0;
    for (int step = 0; step < kSteps; ++step) {
      for (int i = 0; i < 4; ++i) sum += float(i + 1) * in[step * kTile + 4 * (t ^ 33) + i];
    }
    if (results[t] != sum) return false;
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"pipeline", run<Bug::none>},
                             {"noWait", run<Bug::noWait>},
                             {"wrongGroup", run<Bug::wrongGroup>},
                             {"noBarrierBeforeUse", run<Bug::noBarrierBeforeUse>},
                             {"noBarrierBeforeOverwrite", run<Bug::noBarrierBeforeOverwrite>},
                             {"reuseOfSource", run<Bug::reuseOfSource>}},
                            count, arguments);
}
