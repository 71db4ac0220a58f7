// Ordinary CUDA code, to meet what nvcc makes of it: mathematics in float and double, integer division, 16-bit types,
// reductions. Results are compared with the host's.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>

#include "../check.cuh"

namespace {

using selftest::Device;

__host__ __device__ float single(int k, float x) {
  switch (k) {
    case 0:
      return expf(x);
    case 1:
      return sinf(x);
    case 2:
      return cosf(x);
    case 3:
      return tanhf(x);
    case 4:
      return logf(fabsf(x));
    case 5:
      return powf(fabsf(x), 1.7f);
    case 6:
      return erff(x);
    case 7:
      return log1pf(fabsf(x));
    case 8:
      return expm1f(x);
    case 9:
      return sqrtf(fabsf(x));
    case 10:
      return 1 / x;
    case 11:
      return x / 3.3f;
    case 12:
      return floorf(x);
    case 13:
      return rintf(x);
    case 14:
      return ceilf(x);
    case 15:
      return truncf(x);
    case 16:
      return fmodf(x, 0.7f);
    case 17:
      return atan2f(x, 0.3f);
    case 18:
      return cbrtf(x);
    case 19:
      return ldexpf(x, 3);
    case 20:
      return coshf(x / 8);
    case 21:
      return asinf(x / 1e6f);
    case 22:
      return lgammaf(fabsf(x) + 1);
    case 23:
      return exp2f(x);
    case 24:
      return log2f(fabsf(x));
    case 25:
      return hypotf(x, 2);
    case 26:
      return roundf(x);
    case 27:
      return erfcf(x);
    case 28:
      return copysignf(2, x);
    default:
      return fdimf(x, 1);
  }
}

__host__ __device__ double twice(int k, double x) {
  switch (k) {
    case 0:
      return exp(x);
    case 1:
      return sin(x);
    case 2:
      return cos(x);
    case 3:
      return tanh(x);
    case 4:
      return log(fabs(x));
    case 5:
      return pow(fabs(x), 1.7);
    case 6:
      return erf(x);
    case 7:
      return log1p(fabs(x));
    case 8:
      return expm1(x);
    case 9:
      return sqrt(fabs(x));
    case 10:
      return 1 / x;
    case 11:
      return x / 3.3;
    case 12:
      return floor(x);
    case 13:
      return rint(x);
    case 14:
      return fmod(x, 0.7);
    case 15:
      return atan2(x, 0.3);
    case 16:
      return cbrt(x);
    case 17:
      return lgamma(fabs(x) + 1);
    case 18:
      return double(float(x));
    default:
      return double(int64_t(x));
  }
}

__host__ __device__ int64_t whole(int k, int64_t a, int64_t b) {
  switch (k) {
    case 0:
      return a / b;
    case 1:
      return a % b;
    case 2:
      return int(a) / (int(b) | 1);
    case 3:
      return int(a) % (int(b) | 1);
    case 4:
      return int64_t(uint64_t(a) / uint64_t(b));
    case 5:
      return uint32_t(a) % (uint32_t(b) | 1);
    case 6:
      return int64_t(uint64_t(a) * uint64_t(b));
    case 7:
      return a >> (b & 63);
    case 8:
      return int64_t(uint64_t(a) << (b & 63));
    case 9:
      return int16_t(a) * int16_t(b);
    case 10:
      return int8_t(a);
    case 11:
      return uint8_t(b);
    case 12:
      return a < b;
    case 13:
      return (a ^ b) | ~a;
    case 14:
      return int64_t(float(a >> 1));
    case 15:
      return int64_t(double(b >> 1));
    case 16:
      return uint16_t(a) / (uint16_t(b) | 1);
    default:
      return a > b ? a : b;
  }
}

template <class T, auto Function>
__global__ void map(const T* x, T* y, int n, int functions) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  for (int k = 0; k < functions; ++k) y[k * n + i] = Function(k, x[i]);
}

__global__ void mapWhole(const int64_t* a, const int64_t* b, int64_t* y, int n, int functions) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= n) return;
  for (int k = 0; k < functions; ++k) y[k * n + i] = whole(k, a[i], b[i]);
}

constexpr int kValues = 200;

/** Magnitudes from 2^-4 to 2^8, some large. */
template <class T>
std::vector<T> values() {
  selftest::Random random;
  std::vector<T> x;
  for (int i = 0; i < kValues; ++i) {
    const double unit = double(random.bits()) / 4294967296.0 - 0.5;
    x.push_back(T(std::ldexp(unit, i % 12 - 3) * (i % 20 == 19 ? 1e5 : 1)));
  }
  return x;
}

template <class T, auto Function>
bool runMap(int functions, double tolerance) {
  const std::vector<T> x = values<T>();
  const Device<T> from(x), to(size_t(functions) * kValues);
  map<T, Function><<<4, 64>>>(from.data, to.data, kValues, functions);
  const std::vector<T> got = to.read();
  bool right = true;
  for (int k = 0; k < functions; ++k) {
    for (int i = 0; i < kValues; ++i) {
      const double expected = Function(k, x[i]), value = got[size_t(k) * kValues + i];
      const bool same = expected == value || (expected != expected && value != value);
      if (same || std::fabs(expected - value) <= tolerance * (std::fabs(expected) + 0.1)) continue;
      std::fprintf(stderr, "function %d of %.9g: %.9g, not %.9g\n", k, double(x[i]), value, expected);
      right = false;
    }
  }
  return right;
}

bool runWhole() {
  constexpr int kFunctions = 18;
  selftest::Random random;
  std::vector<int64_t> a, b;
  for (int i = 0; i < kValues; ++i) {
    a.push_back(int64_t(uint64_t(random.bits()) << 32 | random.bits()) >> (i % 5 * 11));
    b.push_back((int64_t(uint64_t(random.bits()) << 32 | random.bits()) >> (i % 60)) | 1);
    if (b.back() == -1) b.back() = 3;
  }
  const Device<int64_t> first(a), second(b), to(kFunctions * kValues);
  mapWhole<<<4, 64>>>(first.data, second.data, to.data, kValues, kFunctions);
  const std::vector<int64_t> got = to.read();
  bool right = true;
  for (int k = 0; k < kFunctions; ++k) {
    for (int i = 0; i < kValues; ++i) right &= got[size_t(k) * kValues + i] == whole(k, a[i], b[i]);
  }
  return right;
}

template <class T>
__global__ void narrow(const float* x, float* y, int n) {
  const int i = int(threadIdx.x);
  if (i >= n) return;
  const T a = T(x[i]), b = a * a + T(1.0f);
  y[i] = float(b) + float(b / T(3.0f)) + float(hexp(-b)) + float(htanh(a)) + float(a < b ? a : -a);
}

template <class T>
bool runNarrow(double tolerance) {
  std::vector<float> x = values<float>();
  for (float& value : x) value = std::fmod(value, 5.0f);
  const Device<float> from(x), to(kValues);
  narrow<T><<<1, 256>>>(from.data, to.data, kValues);
  const std::vector<float> got = to.read();
  bool right = true;
  for (int i = 0; i < kValues; ++i) {
    const double a = x[i], b = a * a + 1;
    const double expected = b + b / 3 + std::exp(-b) + std::tanh(a) + (a < b ? a : -a);
    right &= std::fabs(got[i] - expected) <= tolerance * (b + 1);
  }
  return right;
}

__global__ void reduce(const float* x, float* sum, double* squares, unsigned* count, int n) {
  __shared__ float parts[8];
  float value = 0;
  for (int i = int(threadIdx.x); i < n; i += int(blockDim.x)) value += x[i];
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(~0u, value, offset);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0;
    for (const float part : parts) total += part;
    *sum = total;
  }
  if (int(threadIdx.x) < n) atomicAdd(squares, double(x[threadIdx.x]) * x[threadIdx.x]);
  if (x[threadIdx.x % n] > 0) atomicInc(count, ~0u);
}

bool runReduce() {
  const std::vector<float> x = values<float>();
  const Device<float> from(x), sum(1);
  const Device<double> squares(1);
  const Device<unsigned> count(1);
  reduce<<<1, 256>>>(from.data, sum.data, squares.data, count.data, kValues);
  double expectedSum = 0, expectedSquares = 0;
  unsigned expectedCount = 0;
  for (int i = 0; i < kValues; ++i) expectedSum += x[i], expectedSquares += double(x[i]) * x[i];
  for (int t = 0; t < 256; ++t) expectedCount += x[t % kValues] > 0;
  return std::fabs(sum.read()[0] - expectedSum) <= 1e-5 * std::sqrt(expectedSquares) &&
         std::fabs(squares.read()[0] - expectedSquares) <= 1e-12 * expectedSquares && count.read()[0] == expectedCount;
}

/** Blocks of two and three dimensions. */
__global__ void coordinates(uint32_t* out) {
  const uint32_t block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const uint32_t thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = block * 1000 + thread;
}

bool runCoordinates() {
  const Device<uint32_t> out(2 * 3 * 4 * 5 * 3 * 2);
  coordinates<<<dim3(2, 3, 4), dim3(5, 3, 2)>>>(out.data);
  const std::vector<uint32_t> got = out.read();
  bool right = true;
  for (uint32_t i = 0; i < got.size(); ++i) right &= got[i] == i / 30 * 1000 + i % 30;
  return right;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"floatMathematics", [] { return runMap<float, single>(30, 2e-5); }},
                             {"doubleMathematics", [] { return runMap<double, twice>(20, 1e-13); }},
                             {"integers", runWhole},
                             {"half", [] { return runNarrow<__half>(1e-2); }},
                             {"bfloat16", [] { return runNarrow<__nv_bfloat16>(6e-2); }},
                             {"reductions", runReduce},
                             {"coordinates", runCoordinates}},
                            count, arguments);
}
