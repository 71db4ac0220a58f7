// wgmma by its definition: all widths of the ladder, both types, A in shared memory and in registers, either index
// major, all swizzles. Sums are exact, so they are compared as they are.
#include "../../conformance/hopper_wgmma.cuh"

#include "check.cuh"

using namespace hopper_kernels;
using selftest::Device;

namespace {

template <class T>
std::vector<T> numbers(int count, uint64_t seed) {
  selftest::Random random{seed};
  std::vector<T> values;
  for (int i = 0; i < count; ++i) values.push_back(T(random.sixteenth()));
  return values;
}

template <class T, int N, int Width, Major OfA, Major OfB, bool InRegisters = false, int SignA = 1, int SignB = 1>
bool run() {
  const std::vector<T> a = numbers<T>(kRows * kDepth, 1), b = numbers<T>(N * kDepth, 2);
  Device<T> deviceA(a), deviceB(b);
  Device<float> out(kRows * N);
  const auto kernel = product<T, N, Width, OfA, OfB, InRegisters, SignA, SignB>;
  const int bytes = (Layout<kRows, Width, OfA>::kBytes) + (Layout<N, Width, OfB>::kBytes);
  kernel<<<1, 128, bytes>>>(deviceA.data, deviceB.data, out.data);
  const std::vector<float> got = out.read();
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < N; ++j) {
      double sum = 0;
      for (int k = 0; k < kDepth; ++k) sum += double(float(a[i * kDepth + k])) * double(float(b[j * kDepth + k]));
      if (got[i * N + j] != float(SignA * SignB * sum)) return false;
    }
  }
  return true;
}

constexpr Major kK = Major::k, kMn = Major::mn;
using Bf = __nv_bfloat16;

template <int N>
bool runWidth() {
  return run<Bf, N, 128, kK, kK>() && run<__half, N, 128, kK, kMn, true>();
}
template <int Width>
bool runSwizzle() {
  return run<Bf, 64, Width, kK, kK>() && run<Bf, 64, Width, kK, kMn>() && run<Bf, 64, Width, kMn, kK>() &&
         run<__half, 64, Width, kMn, kMn>();
}
bool runRegisters() { return run<Bf, 64, 128, kK, kMn, true>() && run<__half, 64, 128, kK, kK, true>(); }
bool runSigns() { return run<Bf, 64, 128, kK, kK, false, -1, 1>() && run<Bf, 64, 128, kK, kK, true, -1, -1>(); }

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"n32", runWidth<32>},
                             {"n64", runWidth<64>},
                             {"n80", runWidth<80>},
                             {"n96", runWidth<96>},
                             {"n112", runWidth<112>},
                             {"n128", runWidth<128>},
                             {"swizzle32", runSwizzle<32>},
                             {"swizzle64", runSwizzle<64>},
                             {"swizzle128", runSwizzle<128>},
                             {"registers", runRegisters},
                             {"signs", runSigns}},
                            count, arguments);
}
