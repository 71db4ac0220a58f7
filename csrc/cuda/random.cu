// Random tensors with the CPU's bits: element i depends on seed, position and i alone. Products that are added to are
// rounded by intrinsics, which the compiler does not contract.
#include <cmath>

#include "core/dispatch.h"
#include "core/philox.h"
#include "cuda/backend.h"
#include "cuda/launch.cuh"
#include "cuda/packet.cuh"
#include "cuda/scratch.h"
#include "cuda/sort.h"

namespace flowmap::cuda {
namespace {

// What makes `kWidth` neighbouring elements from one block of the sequence.
struct Uniform64 {
  using Value = double;
  static constexpr int kWidth = 2;
  double low, high, below;  // the largest value below high
  __device__ void operator()(const philox::Block& block, double* out) const {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const double u = philox::uniform53(block.word[2 * i], block.word[2 * i + 1]);
      const double value = __dadd_rn(low, __dmul_rn(high - low, u));
      out[i] = value < high || low == high ? value : below;
    }
  }
};

struct Uniform32 {
  using Value = float;
  static constexpr int kWidth = 4;
  float low, high, below;
  __device__ void operator()(const philox::Block& block, float* out) const {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      const float value = __fadd_rn(low, __fmul_rn(high - low, philox::uniform24(block.word[i])));
      out[i] = value < high || low == high ? value : below;
    }
  }
};

struct Normal64 {
  using Value = double;
  static constexpr int kWidth = 2;
  __device__ void operator()(const philox::Block& block, double* out) const { philox::normals64(block, out); }
};

struct Normal32 {
  using Value = float;
  static constexpr int kWidth = 4;
  __device__ void operator()(const philox::Block& block, float* out) const { philox::normals32(block, out); }
};

struct Integers {
  using Value = int32_t;
  static constexpr int kWidth = 4;
  int64_t low;
  uint64_t range;
  __device__ void operator()(const philox::Block& block, int32_t* out) const {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      out[i] = static_cast<int32_t>(low + static_cast<int64_t>((block.word[i] * range) >> 32));
    }
  }
};

struct Keys {
  using Value = uint64_t;
  static constexpr int kWidth = 2;
  __device__ void operator()(const philox::Block& block, uint64_t* out) const {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) out[i] = (uint64_t{block.word[2 * i]} << 32) | block.word[2 * i + 1];
  }
};

template <class T, class Draw>
__global__ void __launch_bounds__(kThreads) randomKernel(T* y, int64_t n, uint64_t seed, uint64_t offset, Draw draw) {
  constexpr int kWidth = Draw::kWidth;
  const int64_t blocks = (n + kWidth - 1) / kWidth;
  for (int64_t block = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; block < blocks;
       block += int64_t{gridDim.x} * blockDim.x) {
    typename Draw::Value values[kWidth];
    draw(philox::draw(seed, offset + static_cast<uint64_t>(block)), values);
    const int64_t first = block * kWidth;
    if (n - first >= kWidth) {
      Packet<T, kWidth> packet;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) packet.at[i] = static_cast<T>(values[i]);
      *reinterpret_cast<Packet<T, kWidth>*>(y + first) = packet;
    } else {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        if (first + i < n) y[first + i] = static_cast<T>(values[i]);
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads) countUpKernel(int32_t* y, int64_t n) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    y[i] = static_cast<int32_t>(i);
  }
}

template <class T, class Draw>
void launchRandom(const Runtime& runtime, T* y, int64_t n, int64_t seed, int64_t offset, const Draw& draw) {
  if (n == 0) return;
  launchKernel(runtime, randomKernel<T, Draw>, gridFor(runtime, n, Draw::kWidth), y, n, static_cast<uint64_t>(seed),
               static_cast<uint64_t>(offset), draw);
}

}  // namespace

void CudaBackend::randomUniform(const Tensor& out, int64_t seed, int64_t offset, double low, double high) {
  dispatchFloating(out.dtype(), [&]<class T>() {
    if constexpr (std::is_same_v<T, double>) {
      launchRandom(runtime_, out.data<T>(), out.numel(), seed, offset, Uniform64{low, high, std::nextafter(high, low)});
    } else {
      const float a = static_cast<float>(low), b = static_cast<float>(high);
      launchRandom(runtime_, out.data<T>(), out.numel(), seed, offset, Uniform32{a, b, std::nextafter(b, a)});
    }
  });
}

void CudaBackend::randomNormal(const Tensor& out, int64_t seed, int64_t offset) {
  dispatchFloating(out.dtype(), [&]<class T>() {
    using Draw = std::conditional_t<std::is_same_v<T, double>, Normal64, Normal32>;
    launchRandom(runtime_, out.data<T>(), out.numel(), seed, offset, Draw{});
  });
}

void CudaBackend::randomIntegers(const Tensor& out, int64_t seed, int64_t offset, int64_t low, int64_t high) {
  launchRandom(runtime_, out.data<int32_t>(), out.numel(), seed, offset,
               Integers{low, static_cast<uint64_t>(high - low)});
}

void CudaBackend::randomPermutation(const Tensor& out, int64_t seed, int64_t offset) {
  const int64_t n = out.numel();
  if (n == 0) return;
  const Scratch<uint64_t> keys(out.device(), n);
  launchRandom(runtime_, keys.data(), n, seed, offset, Keys{});
  launchKernel(runtime_, countUpKernel, gridFor(runtime_, n), out.data<int32_t>(), n);
  sortPairs(runtime_, out.device(), keys.data(), out.data<int32_t>(), n, 64);
}

}  // namespace flowmap::cuda
