// Blocks, warps and memory: correct kernels and their planted bugs. Lines that a report must name are marked with the
// cases that must name them.
#include "check.cuh"
#include "cuda/ptx/barrier.cuh"

using namespace flowmap::cuda::ptx;

namespace {

// ---- warps ----

// Every lane hands a value to its neighbour through shared memory.
template <bool Missing>
__global__ void warpExchange(int* out) {
  __shared__ int slots[64];
  const int t = threadIdx.x, neighbour = t / 32 * 32 + (t + 1) % 32;
  slots[t] = t;
  __syncwarp();
  const int first = slots[neighbour];  // [noSyncwarp]
  if (!Missing) __syncwarp();
  slots[t] = first + 100;  // [noSyncwarp]
  __syncwarp();
  out[t] = slots[neighbour];
}

// A shuffle is no barrier: it orders registers, not memory.
template <bool Missing>
__global__ void shuffleIsNoBarrier(int* out) {
  __shared__ int slots[32];
  const int t = threadIdx.x;
  slots[t] = t;  // [shuffleInsteadOfSyncwarp]
  const int lane = __shfl_sync(0xffffffffu, t ^ 1, t);
  if (!Missing) __syncwarp();
  out[t] = slots[lane];  // [shuffleInsteadOfSyncwarp]
}

enum class Divergence { none, lanes, warps };

template <Divergence divergence>
__global__ void divergentBarrier(int* out) {
  __shared__ int sum;
  const int t = threadIdx.x;
  if (t == 0) sum = 7;
  if (divergence == Divergence::lanes && t % 2) {
    __syncthreads();  // [divergentBarrier]
    out[t] = 0;
  } else if (divergence == Divergence::warps && t >= 32) {
    barrierSync<128>(3);  // [deadlock]
  } else {
    __syncthreads();  // [divergentBarrier] [deadlock]
  }
  out[t] = t == 0 ? sum : t;
}

// One warp produces, one consumes; named barriers 1 (full) and 2 (empty).
template <bool Missing>
__global__ void namedBarriers(int* out) {
  __shared__ int slots[32];
  const int lane = threadIdx.x % 32;
  int sum = 0;
  for (int round = 0; round < 4; ++round) {
    if (threadIdx.x < 32) {
      if (round > 0 && !Missing) barrierSync<64>(2);
      slots[lane] = 10 * round + lane;
      barrierArrive<64>(1);
    } else {
      barrierSync<64>(1);  // [noEmptyBarrier]
      sum += slots[31 - lane];
      if (round < 3 && !Missing) barrierArrive<64>(2);
    }
  }
  if (threadIdx.x >= 32) out[lane] = sum;
}

// A flag orders what its fence covers.
template <bool Missing>
__global__ void flag(int* out, int input) {
  __shared__ int value, ready;
  if (threadIdx.x == 0) ready = 0;
  __syncthreads();
  if (threadIdx.x == 0) {
    value = input;  // [flagWithoutFence]
    if (!Missing) __threadfence_block();
    atomicExch(&ready, 1);
  }
  if (threadIdx.x == 32) {
    while (atomicAdd(&ready, 0) == 0) {
    }
    __threadfence_block();
    *out = value;  // [flagWithoutFence]
  }
}

// All read a value, then one thread replaces it: every reader has to be waited for.
template <bool Missing>
__global__ void broadcast(int* out) {
  __shared__ int value;
  if (threadIdx.x == 0) value = 5;
  __syncthreads();
  const int seen = value;  // [someReadersNotWaitedFor]
  if (Missing) {
    if (threadIdx.x < 96) barrierSync<96>(1);
  } else {
    __syncthreads();
  }
  if (threadIdx.x == 0) value = 6;  // [someReadersNotWaitedFor]
  out[threadIdx.x] = seen;
}

// Volatile accesses may meet unordered; ordinary ones may not.
template <bool Missing>
__global__ void anyThread(int* out) {
  __shared__ int found;
  if (threadIdx.x == 0) found = 0;
  __syncthreads();
  if (Missing) {
    if (threadIdx.x % 2) found = 1;  // [plainWrites]
  } else {
    if (threadIdx.x % 2) *const_cast<volatile int*>(&found) = 1;
  }
  __syncthreads();
  out[threadIdx.x] = found;
}

// Threads write bytes side by side, and read four of others at once.
template <bool Missing>
__global__ void packBytes(unsigned* out) {
  __shared__ alignas(4) unsigned char bytes[128];
  bytes[127 - threadIdx.x] = static_cast<unsigned char>(threadIdx.x);  // [bytesRace]
  if (!Missing) __syncthreads();
  const int word = (threadIdx.x / 4 + 16) % 32;
  if (!Missing || threadIdx.x >= 96) out[threadIdx.x] = reinterpret_cast<unsigned*>(bytes)[word];  // [bytesRace]
}

// ---- memory ----

__global__ void readsUnwrittenShared(int* out) {
  __shared__ int slots[64];
  if (threadIdx.x < 32) slots[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = slots[threadIdx.x];  // [unwrittenShared]
}

__global__ void copyElements(const float* in, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = in[i];  // [globalOutOfBounds] [useAfterFree] [globalUnwritten]
}

__global__ void copyPairs(const float* in, float* out) {
  const float2 pair = *reinterpret_cast<const float2*>(in + 2 * threadIdx.x);  // [globalMisaligned]
  out[2 * threadIdx.x] = pair.x;
  out[2 * threadIdx.x + 1] = pair.y;
}

__global__ void sharedIndex(int* out, int offset) {
  extern __shared__ int slots[];
  slots[threadIdx.x + offset] = 1;  // [sharedOutOfBounds]
  out[threadIdx.x] = 1;
}

__global__ void sharedPairs(int* out, int offset) {
  __shared__ alignas(16) int slots[64];
  slots[threadIdx.x] = 1;
  slots[threadIdx.x + 32] = 1;
  __syncthreads();
  const int2 pair = reinterpret_cast<const int2*>(slots + offset)[threadIdx.x / 2];  // [sharedMisaligned]
  out[threadIdx.x] = pair.x * pair.y;
}

// ---- blocks ----

__global__ void histogram(const int* in, int* counts) { atomicAdd(counts + in[blockIdx.x * 32 + threadIdx.x], 1); }

__global__ void plainHistogram(const int* in, int* counts) {
  if (threadIdx.x == 0) counts[in[blockIdx.x * 32]] += 1;  // [blocksRace]
}

// The last block to finish sums what all wrote.
template <bool Missing>
__global__ void lastBlockSums(int* partials, unsigned* ticket, int* out) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    partials[blockIdx.x] = int(blockIdx.x) + 1;  // [noFence]
    if (!Missing) __threadfence();
    last = atomicAdd(ticket, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (last && threadIdx.x == 0) {
    int sum = 0;
    for (unsigned b = 0; b < gridDim.x; ++b) sum += partials[b];  // [noFence]
    *out = sum;
  }
}

__global__ void neighboursInGlobal(int* slots, int* out) {
  slots[threadIdx.x] = int(threadIdx.x);                     // [globalRace]
  out[threadIdx.x] = slots[(threadIdx.x + 1) % blockDim.x];  // [globalRace]
}

__global__ void readThenWrite(int* value, int* out) {
  if (blockIdx.x < 3) out[blockIdx.x] = *value;  // [blocksReadWrite]
  if (blockIdx.x == 3) *value = 1;               // [blocksReadWrite]
}

// Blocks may write to neighbouring bytes.
__global__ void writeBytes(unsigned char* out, int stride) {
  out[threadIdx.x * stride + blockIdx.x] = static_cast<unsigned char>(threadIdx.x);
}

// ---- cases ----

template <class T>
bool equals(const std::vector<T>& results, T (*expected)(int)) {
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i] != expected(int(i))) return false;
  }
  return true;
}

template <bool Missing>
bool runWarpExchange() {
  selftest::Device<int> out(64);
  warpExchange<Missing><<<1, 64>>>(out.data);
  return equals<int>(out.read(), [](int t) { return t / 32 * 32 + (t + 2) % 32 + 100; });
}

template <bool Missing>
bool runShuffle() {
  selftest::Device<int> out(32);
  shuffleIsNoBarrier<Missing><<<1, 32>>>(out.data);
  return equals<int>(out.read(), [](int t) { return t ^ 1; });
}

template <Divergence divergence>
bool runDivergentBarrier() {
  selftest::Device<int> out(128);
  divergentBarrier<divergence><<<1, 128>>>(out.data);
  return equals<int>(out.read(), [](int t) { return t == 0 ? 7 : t; });
}

template <bool Missing>
bool runNamedBarriers() {
  selftest::Device<int> out(32);
  namedBarriers<Missing><<<1, 64>>>(out.data);
  return equals<int>(out.read(), [](int t) { return 60 + 4 * (31 - t); });
}

template <bool Missing>
bool runFlag() {
  selftest::Device<int> out(1);
  flag<Missing><<<1, 64>>>(out.data, 42);
  return out.read()[0] == 42;
}

template <bool Missing>
bool runBroadcast() {
  selftest::Device<int> out(128);
  broadcast<Missing><<<1, 128>>>(out.data);
  return equals<int>(out.read(), [](int) { return 5; });
}

template <bool Missing>
bool runAnyThread() {
  selftest::Device<int> out(64);
  anyThread<Missing><<<1, 64>>>(out.data);
  return equals<int>(out.read(), [](int) { return 1; });
}

template <bool Missing>
bool runPackBytes() {
  selftest::Device<unsigned> out(128);
  packBytes<Missing><<<1, 128>>>(out.data);
  return equals<unsigned>(out.read(), [](int t) {
    const unsigned first = 127 - 4 * ((t / 4 + 16) % 32);
    return first | (first - 1) << 8 | (first - 2) << 16 | (first - 3) << 24;
  });
}

bool runReadThenWrite() {
  selftest::Device<int> value(1), out(3);
  readThenWrite<<<4, 1>>>(value.data, out.data);
  return equals<int>(out.read(), [](int) { return 0; });
}

bool runUnwrittenShared() {
  selftest::Device<int> out(64);
  readsUnwrittenShared<<<1, 64>>>(out.data);
  return equals<int>(out.read(), [](int t) { return int(t < 32); });
}

template <int Elements>
bool runCopy() {
  std::vector<float> in(100);
  for (int i = 0; i < 100; ++i) in[i] = float(i);
  selftest::Device<float> source(in), out(128);
  copyElements<<<4, 32>>>(source.data, out.data, Elements);
  const std::vector<float> results = out.read();
  return std::equal(in.begin(), in.end(), results.begin());
}

bool runUseAfterFree() {
  selftest::Device<float> out(100);
  float* in = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&in), 400);
  cudaMemset(in, 0, 400);
  cudaFree(in);
  copyElements<<<4, 32>>>(in, out.data, 100);
  return out.read()[0] == 0;
}

bool runGlobalUnwritten() {
  selftest::Device<float> out(100);
  float* in = nullptr;
  cudaMalloc(reinterpret_cast<void**>(&in), 400);
  copyElements<<<4, 32>>>(in, out.data, 100);
  const bool right = out.read()[0] == 0;
  cudaFree(in);
  return right;
}

template <int Offset>
bool runPairs() {
  std::vector<float> in(100, 3.0f);
  selftest::Device<float> source(in), out(64);
  copyPairs<<<1, 32>>>(source.data + Offset, out.data);
  return equals<float>(out.read(), [](int) { return 3.0f; });
}

template <int Offset>
bool runSharedIndex() {
  selftest::Device<int> out(32);
  sharedIndex<<<1, 32, 32 * sizeof(int)>>>(out.data, Offset);
  return equals<int>(out.read(), [](int) { return 1; });
}

template <int Offset>
bool runSharedPairs() {
  selftest::Device<int> out(32);
  sharedPairs<<<1, 32>>>(out.data, Offset);
  return equals<int>(out.read(), [](int) { return 1; });
}

template <bool Plain>
bool runHistogram() {
  std::vector<int> in(128);
  for (int i = 0; i < 128; ++i) in[i] = i % 4;
  selftest::Device<int> source(in), counts(4);
  if (Plain) {
    plainHistogram<<<4, 32>>>(source.data, counts.data);
  } else {
    histogram<<<4, 32>>>(source.data, counts.data);
  }
  return equals<int>(counts.read(), [](int) { return 32; });
}

template <bool Missing>
bool runLastBlock() {
  selftest::Device<int> partials(8), out(1);
  selftest::Device<unsigned> ticket(1);
  lastBlockSums<Missing><<<8, 64>>>(partials.data, ticket.data, out.data);
  return equals<int>(out.read(), [](int) { return 36; });
}

bool runGlobalRace() {
  selftest::Device<int> slots(64), out(64);
  neighboursInGlobal<<<1, 64>>>(slots.data, out.data);
  return equals<int>(out.read(), [](int t) { return (t + 1) % 64; });
}

bool runBytes() {
  selftest::Device<unsigned char> out(96);
  writeBytes<<<3, 32>>>(out.data, 3);
  return equals<unsigned char>(out.read(), [](int i) { return static_cast<unsigned char>(i / 3); });
}

template <bool Missing>
bool runReadBack() {
  std::vector<float> in(100, 2.0f);
  selftest::Device<float> source(in), out(100);
  float* host = nullptr;
  cudaMallocHost(reinterpret_cast<void**>(&host), 400);
  for (int i = 0; i < 100; ++i) host[i] = 2.0f;
  cudaStream_t stream;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  copyElements<<<4, 32, 0, stream>>>(source.data, out.data, 100);
  cudaMemcpyAsync(host, out.data, 400, cudaMemcpyDeviceToHost, stream);
  if (!Missing) cudaStreamSynchronize(stream);
  bool right = true;
  for (int i = 0; i < 100; ++i) right &= host[i] == 2.0f;
  cudaStreamSynchronize(stream);
  cudaStreamDestroy(stream);
  cudaFreeHost(host);
  return right;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"warpExchange", runWarpExchange<false>},
                             {"noSyncwarp", runWarpExchange<true>},
                             {"shuffle", runShuffle<false>},
                             {"shuffleInsteadOfSyncwarp", runShuffle<true>},
                             {"barrier", runDivergentBarrier<Divergence::none>},
                             {"divergentBarrier", runDivergentBarrier<Divergence::lanes>},
                             {"deadlock", runDivergentBarrier<Divergence::warps>},
                             {"namedBarriers", runNamedBarriers<false>},
                             {"noEmptyBarrier", runNamedBarriers<true>},
                             {"flag", runFlag<false>},
                             {"flagWithoutFence", runFlag<true>},
                             {"broadcast", runBroadcast<false>},
                             {"someReadersNotWaitedFor", runBroadcast<true>},
                             {"volatileWrites", runAnyThread<false>},
                             {"plainWrites", runAnyThread<true>},
                             {"packBytes", runPackBytes<false>},
                             {"bytesRace", runPackBytes<true>},
                             {"blocksReadWrite", runReadThenWrite},
                             {"unwrittenShared", runUnwrittenShared},
                             {"copy", runCopy<100>},
                             {"globalOutOfBounds", runCopy<101>},
                             {"useAfterFree", runUseAfterFree},
                             {"globalUnwritten", runGlobalUnwritten},
                             {"pairs", runPairs<2>},
                             {"globalMisaligned", runPairs<1>},
                             {"sharedIndex", runSharedIndex<0>},
                             {"sharedOutOfBounds", runSharedIndex<1>},
                             {"sharedPairs", runSharedPairs<0>},
                             {"sharedMisaligned", runSharedPairs<1>},
                             {"histogram", runHistogram<false>},
                             {"blocksRace", runHistogram<true>},
                             {"lastBlock", runLastBlock<false>},
                             {"noFence", runLastBlock<true>},
                             {"globalRace", runGlobalRace},
                             {"bytes", runBytes},
                             {"readBack", runReadBack<false>},
                             {"noSynchronisation", runReadBack<true>}},
                            count, arguments);
}
