// cp.async in all its forms, against its definition: bytes arrive, the rest is zero, nothing else changes.
#include "check.cuh"
#include "cuda/ptx/cp_async.cuh"

using namespace flowmap::cuda::ptx;

namespace {

constexpr int kThreads = 32;

template <int Bytes, class Copy>
__device__ void throughShared(unsigned char* out, Copy copy) {
  __shared__ alignas(16) unsigned char slots[kThreads * 16];
  const int t = threadIdx.x;
  for (int i = 0; i < 16; ++i) slots[16 * t + i] = 0xab;
  copy(slots + 16 * t);
  for (int i = 0; i < 16; ++i) out[16 * t + i] = slots[16 * t + i];
}

template <int Bytes>
__global__ void whole(const unsigned char* in, unsigned char* out) {
  throughShared<Bytes>(out, [=](unsigned char* to) {
    cpAsync<Bytes>(to, in + 16 * threadIdx.x);
    cpAsyncCommit();
    cpAsyncWait<0>();
  });
}

// Thread t copies t mod (Bytes + 1) bytes.
template <int Bytes>
__global__ void zeroFill(const unsigned char* in, unsigned char* out) {
  throughShared<Bytes>(out, [=](unsigned char* to) {
    const uint32_t valid = threadIdx.x % (Bytes + 1);
    cpAsyncZeroFill<Bytes>(to, valid == 0 ? nullptr : in + 16 * threadIdx.x, valid);
    cpAsyncWaitAll();
  });
}

__global__ void withHints(const unsigned char* in, unsigned char* out) {
  throughShared<16>(out, [=](unsigned char* to) {
    const unsigned char* from = in + 16 * threadIdx.x;
    asm volatile("cp.async.ca.shared.global.L2::64B [%0], [%1], 4;\n" ::"r"(sharedAddress(to)), "l"(from) : "memory");
    asm volatile("cp.async.ca.shared.global.L2::256B [%0+4], [%1+4], 4;\n" ::"r"(sharedAddress(to)), "l"(from)
                 : "memory");
    asm volatile("cp.async.ca.shared.global.L2::128B [%0+8], [%1+8], 8;\n" ::"r"(sharedAddress(to)), "l"(from)
                 : "memory");
    cpAsyncWaitAll();
    asm volatile(
        "{\n.reg .b64 policy;\ncreatepolicy.fractional.L2::evict_first.b64 policy, 0f3F800000;\n"
        "cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, policy;\n}\n" ::"r"(sharedAddress(to)),
        "l"(from)
        : "memory");
    cpAsyncWaitAll();
  });
}

// Groups complete in order: waiting for all but the last two gives the first of three.
__global__ void groups(const unsigned char* in, unsigned char* out) {
  throughShared<4>(out, [=](unsigned char* to) {
    for (int i = 0; i < 3; ++i) {
      cpAsync<4>(to + 4 * i, in + 16 * threadIdx.x + 4 * i);
      cpAsyncCommit();
    }
    cpAsyncCommit();  // an empty group counts
    cpAsyncWait<1>();
  });
}

std::vector<unsigned char> input() {
  selftest::Random random;
  std::vector<unsigned char> bytes(kThreads * 16);
  for (unsigned char& byte : bytes) byte = static_cast<unsigned char>(random.bits() >> 9);
  return bytes;
}

/** Thread t's 16 bytes: `copied` from the input, then zeros up to `written`, then untouched. */
template <class Copied>
bool check(void (*kernel)(const unsigned char*, unsigned char*), Copied copied, int written) {
  const std::vector<unsigned char> in = input();
  selftest::Device<unsigned char> source(in), out(in.size());
  kernel<<<1, kThreads>>>(source.data, out.data);
  const std::vector<unsigned char> results = out.read();
  for (int i = 0; i < kThreads * 16; ++i) {
    const int expected = i % 16 < copied(i / 16) ? in[i] : i % 16 < written ? 0 : 0xab;
    if (results[i] != expected) return false;
  }
  return true;
}

template <int Bytes>
bool runWhole() {
  return check(
      whole<Bytes>, [](int) { return Bytes; }, Bytes);
}

template <int Bytes>
bool runZeroFill() {
  return check(
      zeroFill<Bytes>, [](int t) { return t % (Bytes + 1); }, Bytes);
}

bool runHints() {
  return check(
      withHints, [](int) { return 16; }, 16);
}

bool runGroups() {
  return check(
      groups, [](int) { return 12; }, 12);
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"copy4", runWhole<4>},
                             {"copy8", runWhole<8>},
                             {"copy16", runWhole<16>},
                             {"zeroFill4", runZeroFill<4>},
                             {"zeroFill8", runZeroFill<8>},
                             {"zeroFill16", runZeroFill<16>},
                             {"hints", runHints},
                             {"groups", runGroups}},
                            count, arguments);
}
