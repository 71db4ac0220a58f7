// A product of one warp through ldmatrix and mma, and what is commonly wrong in one. Most of it is legal and shows only
// in the values, which are compared with the host's.
#include <cuda_bf16.h>

#include "check.cuh"
#include "cuda/ptx/ldmatrix.cuh"
#include "cuda/ptx/mma.cuh"

using namespace flowmap::cuda::ptx;

namespace {

enum class Bug { none, wrongRows, misalignedRow, outOfRangeRow, swappedB, lostTrans, divergent };

constexpr int kM = 16, kN = 8, kK = 16;

// c [16, 8] = a [16, 16] · b [16, 8], all row-major. Rows of `a` lie Stride elements apart in shared memory.
template <Bug bug, int Stride>
__global__ void product(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c) {
  __shared__ alignas(16) __nv_bfloat16 tileA[kM * Stride];
  __shared__ alignas(16) __nv_bfloat16 tileB[kK * kN];
  const int lane = threadIdx.x;
  for (int i = lane; i < kM * kK; i += 32) tileA[i / kK * Stride + i % kK] = a[i];
  for (int i = lane; i < kK * kN; i += 32) tileB[i] = b[i];
  __syncwarp();

  // Tiles of `a`, in the order of mma's registers: rows 0-7 and 8-15 of columns 0-7, then of columns 8-15.
  int row = bug == Bug::wrongRows ? lane % 8 + lane / 16 * 8 : lane % 16;
  int column = bug == Bug::wrongRows ? lane / 8 % 2 * 8 : lane / 16 * 8;
  if (bug == Bug::misalignedRow && lane == 9) column += 2;
  if (bug == Bug::outOfRangeRow && lane == 9) row += 1000;
  uint32_t fragmentA[4], fragmentB[2];
  if (bug == Bug::divergent && lane == 9) return;
  ldmatrix(fragmentA, tileA + row * Stride + column);  // [misalignedRow] [outOfRangeRow] [divergent]
  ldmatrix<bug != Bug::lostTrans>(fragmentB, tileB + lane % 16 * kN);
  if (bug == Bug::swappedB) {
    const uint32_t first = fragmentB[0];
    fragmentB[0] = fragmentB[1];
    fragmentB[1] = first;
  }
  float sums[4] = {};
  Mma<__nv_bfloat16>::m16n8k16(sums, fragmentA, fragmentB);
  for (int i = 0; i < 4; ++i) c[(lane / 4 + i / 2 * 8) * kN + lane % 4 * 2 + i % 2] = sums[i];
}

template <Bug bug, int Stride = kK>
bool run() {
  selftest::Random random;
  std::vector<__nv_bfloat16> a(kM * kK), b(kK * kN);
  for (auto* matrix : {&a, &b}) {
    for (__nv_bfloat16& x : *matrix) x = __float2bfloat16(random.sixteenth());
  }
  selftest::Device<__nv_bfloat16> deviceA(a), deviceB(b);
  selftest::Device<float> c(kM * kN);
  product<bug, Stride><<<1, 32>>>(deviceA.data, deviceB.data, c.data);
  const std::vector<float> results = c.read();
  for (int m = 0; m < kM; ++m) {
    for (int n = 0; n < kN; ++n) {
      float sum = 0;
      for (int k = 0; k < kK; ++k) sum += __bfloat162float(a[m * kK + k]) * __bfloat162float(b[k * kN + n]);
      if (results[m * kN + n] != sum) return false;
    }
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"product", run<Bug::none>},
                             {"productPadded", run<Bug::none, kK + 8>},
                             {"productWide", run<Bug::none, 64>},
                             {"wrongRows", run<Bug::wrongRows>},
                             {"misalignedRow", run<Bug::misalignedRow>},
                             {"outOfRangeRow", run<Bug::outOfRangeRow>},
                             {"swappedB", run<Bug::swappedB>},
                             {"lostTrans", run<Bug::lostTrans>},
                             {"divergent", run<Bug::divergent>}},
                            count, arguments);
}
