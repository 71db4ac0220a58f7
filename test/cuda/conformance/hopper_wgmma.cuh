// A kernel of wgmma: one product of 64 rows and a depth of 32, in any width, type, place of A, layout and sign. For the
// emulator's tests and for conformance.
#pragma once

#include "cuda/hopper/wgmma_products.cuh"
#include "hopper_tensors.cuh"

namespace hopper_kernels {

using namespace flowmap::cuda::hopper;

constexpr int kRows = 64, kDepth = 32, kSteps = kDepth / 16;

/** A matrix of `Rows` (rows of A or columns of B) × kDepth in shared memory, in columns of one swizzle's width. */
template <int Rows, int Width, Major major>
struct Layout {
  static constexpr int kInRow = Width / 2;
  static constexpr int kLines = major == Major::k ? Rows : kDepth;
  static constexpr int kColumns = ((major == Major::k ? kDepth : Rows) + kInRow - 1) / kInRow;
  static constexpr int kBytes = kColumns * kLines * Width;
  static_assert(kLines * Width % 1024 == 0 || kColumns == 1 || Width < 128);

  static __device__ int byte(int mn, int k) {
    const int line = major == Major::k ? mn : k, at = major == Major::k ? k : mn;
    return swizzledByte(at / kInRow * kLines * Width + line * Width + at % kInRow * 2, Width);
  }
  static __device__ uint64_t descriptor(const void* matrix, int step) {
    const int k = 16 * step;
    const int offset = major == Major::k ? k / kInRow * kLines * Width + k % kInRow * 2 : k * Width;
    return matrixDescriptor<Width>(sharedAddress(matrix) + offset, kLines * Width, 8 * Width);
  }
};

template <class T, int N, int Width, Major OfA, Major OfB, bool InRegisters, int SignA, int SignB>
__global__ void __launch_bounds__(128) product(const T* a, const T* b, float* out) {
  using A = Layout<kRows, Width, OfA>;
  using B = Layout<N, Width, OfB>;
  extern __shared__ __align__(1024) unsigned char memory[];
  unsigned char* const matrixB = memory + A::kBytes;
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  for (int i = t; i < kRows * kDepth; i += 128) *reinterpret_cast<T*>(memory + A::byte(i / kDepth, i % kDepth)) = a[i];
  for (int i = t; i < N * kDepth; i += 128) *reinterpret_cast<T*>(matrixB + B::byte(i / kDepth, i % kDepth)) = b[i];
  uint32_t fragments[kSteps][4];
  for (int step = 0; step < kSteps; ++step) {
    for (int r = 0; r < 4; ++r) {
      const int row = 16 * warp + lane / 4 + r % 2 * 8, k = 16 * step + lane % 4 * 2 + r / 2 * 8;
      fragments[step][r] = *reinterpret_cast<const uint32_t*>(a + row * kDepth + k);
    }
  }
  fenceProxyAsync();
  __syncthreads();
  float d[N / 2];
  for (int j = 0; j < N / 2; ++j) d[j] = 77;  // not added to
  holdRegisters(d);
  wgmmaFence();
#pragma unroll
  for (int step = 0; step < kSteps; ++step) {
    if constexpr (InRegisters) {
      wgmma<T, OfB, SignA, SignB>(d, fragments[step], B::descriptor(matrixB, step), step > 0);
    } else {
      wgmma<T, OfA, OfB, SignA, SignB>(d, A::descriptor(memory, step), B::descriptor(matrixB, step), step > 0);
    }
  }
  wgmmaCommit();
  wgmmaWait<0>();
  holdRegisters(d);
  for (int j = 0; j < N / 2; ++j) {
    out[(16 * warp + lane / 4 + j / 2 % 2 * 8) * N + j / 4 * 8 + lane % 4 * 2 + j % 2] = d[j];
  }
}

}  // namespace hopper_kernels
