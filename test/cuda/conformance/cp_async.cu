// cp_async.cuh: every size, zero fill of every length, groups.
#include "cuda/ptx/cp_async.cuh"

#include "record.cuh"

namespace conformance {

using namespace flowmap::cuda::ptx;

namespace {

constexpr int kThreads = 32, kWords = 4;

template <class Copy>
__device__ void throughShared(uint32_t* out, Copy copy) {
  __shared__ uint4 slots[kThreads];
  uint32_t* slot = reinterpret_cast<uint32_t*>(slots + threadIdx.x);
  for (int i = 0; i < kWords; ++i) slot[i] = 0xabababab;
  copy(slot);
  for (int i = 0; i < kWords; ++i) out[kWords * threadIdx.x + i] = slot[i];
}

template <int Bytes>
__global__ void whole(const uint32_t* in, uint32_t* out) {
  throughShared(out, [=](uint32_t* to) {
    cpAsync<Bytes>(to, in + kWords * threadIdx.x);
    cpAsyncCommit();
    cpAsyncWait<0>();
  });
}

template <int Bytes>
__global__ void zeroFill(const uint32_t* in, uint32_t* out) {
  throughShared(out, [=](uint32_t* to) {
    cpAsyncZeroFill<Bytes>(to, in + kWords * threadIdx.x, threadIdx.x % (Bytes + 1));
    cpAsyncWaitAll();
  });
}

// Each lane reads what another lane of the next round's group brought.
__global__ void groups(const uint32_t* in, uint32_t* out) {
  __shared__ uint4 slots[3][kThreads];
  for (int i = 0; i < 3; ++i) {
    cpAsync<16>(&slots[i][threadIdx.x], in + kWords * ((threadIdx.x + i) % kThreads));
    cpAsyncCommit();
  }
  cpAsyncWait<2>();
  __syncwarp();
  uint32_t sum = slots[0][31 - threadIdx.x].x;
  cpAsyncWait<1>();
  __syncwarp();
  sum = sum * 3 + slots[1][31 - threadIdx.x].y;
  cpAsyncWait<0>();
  __syncwarp();
  out[threadIdx.x] = sum * 3 + slots[2][31 - threadIdx.x].z;
}

void record(const char* name, void (*kernel)(const uint32_t*, uint32_t*), size_t words = kThreads * kWords) {
  const Words in(Random(1).words(kThreads * kWords)), out(words);
  kernel<<<1, kThreads>>>(in.data(), out.data());
  out.record(name);
}

}  // namespace

void recordCopies() {
  record("cpAsync<4>", whole<4>);
  record("cpAsync<8>", whole<8>);
  record("cpAsync<16>", whole<16>);
  record("cpAsyncZeroFill<4>", zeroFill<4>);
  record("cpAsyncZeroFill<8>", zeroFill<8>);
  record("cpAsyncZeroFill<16>", zeroFill<16>);
  record("cpAsyncWait", groups, kThreads);
}

}  // namespace conformance
