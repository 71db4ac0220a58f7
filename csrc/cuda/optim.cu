// The optimiser: each op over all tensors of a list at once, in place. A step that follows a fault no read has told of
// yet does nothing: what it would take into the parameters may be wrong, and it must not be lost what they were.
#include "core/convert_element.h"
#include "core/optim_formulas.h"
#include "cuda/backend.h"
#include "cuda/packet.cuh"
#include "cuda/scratch.h"
#include "cuda/tensor_table.cuh"

namespace flowmap::cuda {
namespace {

constexpr int64_t kUpdateChunk = 4096;  // elements of a block
constexpr int64_t kNormChunk = 16384;   // more of them: every block leaves a sum to join
constexpr int kWarp = 32;
constexpr int kJoinThreads = 1024;

__device__ __forceinline__ bool faulty(const FaultRecord* record) { return record->struck != 0; }

// Reads and writes kCount neighbours, `live` of them; in whole packets where all are.
template <int kCount, class T, class C>
__device__ __forceinline__ void loadRun(C (&values)[kCount], const T* x, int live) {
  constexpr int kEach = kCount * sizeof(T) < kPacketBytes ? kCount : kPacketBytes / static_cast<int>(sizeof(T));
  if (live == kCount) {
#pragma unroll
    for (int first = 0; first < kCount; first += kEach) {
      const Packet<T, kEach> packet = *reinterpret_cast<const Packet<T, kEach>*>(x + first);
#pragma unroll
      for (int i = 0; i < kEach; ++i) values[first + i] = static_cast<C>(packet.at[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) values[i] = static_cast<C>(x[i < live ? i : 0]);
  }
}

template <int kCount, class T, class C>
__device__ __forceinline__ void storeRun(T* y, const C (&values)[kCount], int live) {
  constexpr int kEach = kCount * sizeof(T) < kPacketBytes ? kCount : kPacketBytes / static_cast<int>(sizeof(T));
  if (live == kCount) {
#pragma unroll
    for (int first = 0; first < kCount; first += kEach) {
      Packet<T, kEach> packet;
#pragma unroll
      for (int i = 0; i < kEach; ++i) packet.at[i] = static_cast<T>(values[first + i]);
      *reinterpret_cast<Packet<T, kEach>*>(y + first) = packet;
    }
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < live) y[i] = static_cast<T>(values[i]);
    }
  }
}

template <int kCount>
__device__ __forceinline__ int liveOf(int64_t at, int64_t end) {
  return end - at < kCount ? static_cast<int>(end - at) : kCount;
}

// Arrays: params, grads, m, v and masters, which may be null.
template <class T>
__global__ void __launch_bounds__(kThreads)
    momentStepKernel(const __grid_constant__ TensorTable<5> table, MomentNumbers<Compute<T>> with, bool adaptive,
                     bool coupled, const float* gradScale, const FaultRecord* fault) {
  using C = Compute<T>;
  constexpr int kCount = kPacketBytes / sizeof(T);
  if (faulty(fault)) return;
  const TableChunk chunk = chunkOfBlock<kUpdateChunk>(table);
  T* params = static_cast<T*>(table.data[0][chunk.tensor]);
  const T* grads = static_cast<const T*>(table.data[1][chunk.tensor]);
  C* firsts = static_cast<C*>(table.data[2][chunk.tensor]);
  C* seconds = static_cast<C*>(table.data[3][chunk.tensor]);
  C* masters = static_cast<C*>(table.data[4][chunk.tensor]);
  const C factor = gradScale ? static_cast<C>(*gradScale) : C(1);
  for (int64_t at = chunk.begin + threadIdx.x * kCount; at < chunk.end; at += kThreads * kCount) {
    const int live = liveOf<kCount>(at, chunk.end);
    C value[kCount], gradient[kCount], m[kCount], v[kCount];
    if (masters)
      loadRun(value, masters + at, live);
    else
      loadRun(value, params + at, live);
    loadRun(gradient, grads + at, live);
    loadRun(m, firsts + at, live);
    loadRun(v, seconds + at, live);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Moments<C> next =
          momentUpdate(with, adaptive, coupled, Moments<C>{value[i], m[i], v[i]}, product(gradient[i], factor));
      value[i] = next.value;
      m[i] = next.m;
      v[i] = next.v;
    }
    storeRun(firsts + at, m, live);
    storeRun(seconds + at, v, live);
    if (masters) storeRun(masters + at, value, live);
    storeRun(params + at, value, live);
  }
}

// Arrays: averages and params.
template <class A, class T>
__global__ void __launch_bounds__(kThreads) emaKernel(const __grid_constant__ TensorTable<2> table, Compute<A> keep,
                                                      Compute<A> take, const FaultRecord* fault) {
  using C = Compute<A>;
  constexpr int kCount = kPacketBytes / sizeof(T);
  if (faulty(fault)) return;
  const TableChunk chunk = chunkOfBlock<kUpdateChunk>(table);
  A* averages = static_cast<A*>(table.data[0][chunk.tensor]);
  const T* params = static_cast<const T*>(table.data[1][chunk.tensor]);
  for (int64_t at = chunk.begin + threadIdx.x * kCount; at < chunk.end; at += kThreads * kCount) {
    const int live = liveOf<kCount>(at, chunk.end);
    C average[kCount], value[kCount];
    loadRun(average, averages + at, live);
    loadRun(value, params + at, live);
#pragma unroll
    for (int i = 0; i < kCount; ++i) average[i] = averageUpdate(keep, average[i], take, value[i]);
    storeRun(averages + at, average, live);
  }
}

// The sum of a block's threads, in the first of them. All must come.
template <int kBlock>
__device__ __forceinline__ double blockSum(double sum) {
  __shared__ double warps[kBlock / kWarp];
  for (int distance = kWarp / 2; distance > 0; distance /= 2) sum += __shfl_down_sync(0xffffffffu, sum, distance);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < kBlock / kWarp; ++i) sum += warps[i];
  }
  return sum;
}

// partials[block] = the sum of the squares of its chunk
template <class T>
__global__ void __launch_bounds__(kThreads)
    sumSquaresKernel(double* partials, const __grid_constant__ TensorTable<1> table) {
  constexpr int kCount = kPacketBytes / sizeof(T);
  const TableChunk chunk = chunkOfBlock<kNormChunk>(table);
  const T* x = static_cast<const T*>(table.data[0][chunk.tensor]);
  double sum = 0;
  for (int64_t at = chunk.begin + threadIdx.x * kCount; at < chunk.end; at += kThreads * kCount) {
    const int live = liveOf<kCount>(at, chunk.end);
    Compute<T> values[kCount];
    loadRun(values, x + at, live);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const double value = static_cast<double>(values[i]);
      if (i < live) sum += product(value, value);
    }
  }
  sum = blockSum<kThreads>(sum);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

template <class T>
__global__ void __launch_bounds__(kJoinThreads) rootOfSumKernel(T* y, const double* partials, int64_t count) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kJoinThreads) sum += partials[i];
  sum = blockSum<kJoinThreads>(sum);
  if (threadIdx.x == 0) *y = static_cast<T>(sqrt(sum));
}

template <class T>
__global__ void clipScaleKernel(float* y, const T* norm, double maxNorm) {
  *y = clipScaleOf(static_cast<double>(static_cast<Compute<T>>(*norm)), maxNorm);
}

template <class To, class From>
__global__ void __launch_bounds__(kThreads) copyIntoKernel(To* y, const From* x, int64_t n, const FaultRecord* fault) {
  constexpr int kCount = kPacketBytes / static_cast<int>(sizeof(To) > sizeof(From) ? sizeof(To) : sizeof(From));
  if (faulty(fault)) return;
  for (int64_t at = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kCount; at < n;
       at += int64_t{gridDim.x} * blockDim.x * kCount) {
    const int live = liveOf<kCount>(at, n);
    From values[kCount];
    To results[kCount];
    loadRun(values, x + at, live);
#pragma unroll
    for (int i = 0; i < kCount; ++i) results[i] = convertElement<To>(values[i]);
    storeRun(y + at, results, live);
  }
}

template <class Body>
void forFloatingTypes(Body body) {
  body.template operator()<float>();
  body.template operator()<double>();
  body.template operator()<BFloat16>();
  body.template operator()<Float16>();
}

void momentStep(const Runtime& runtime, const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                const std::vector<Tensor>& m, const std::vector<Tensor>& v, const std::vector<Tensor>& masters,
                const Tensor& gradScale, const MomentStep& with) {
  forFloatingTypes([&]<class T>() {
    auto tables = tensorTables<kUpdateChunk, 5>([&](const TensorTable<5>& table, const Grid& grid) {
      launchKernel(runtime, momentStepKernel<T>, grid, table, MomentNumbers<Compute<T>>(with), with.adaptive,
                   with.coupled(), gradScale.data<const float>(), runtime.fault());
    });
    for (size_t i = 0; i < params.size(); ++i) {
      if (params[i].dtype() != DTypeOf<T>::value) continue;
      tables.add(params[i].numel(), {params[i].data(), grads[i].data(), m[i].data(), v[i].data(),
                                     masters.empty() ? nullptr : masters[i].data()});
    }
    tables.finish();
  });
}

// Averages of one pair of types.
template <class A, class T>
void updateAverages(const Runtime& runtime, const std::vector<Tensor>& averages, const std::vector<Tensor>& params,
                    double decay) {
  using C = Compute<A>;
  auto tables = tensorTables<kUpdateChunk, 2>([&](const TensorTable<2>& table, const Grid& grid) {
    launchKernel(runtime, emaKernel<A, T>, grid, table, static_cast<C>(decay), static_cast<C>(1 - decay),
                 runtime.fault());
  });
  for (size_t i = 0; i < params.size(); ++i) {
    if (averages[i].dtype() != DTypeOf<A>::value || params[i].dtype() != DTypeOf<T>::value) continue;
    tables.add(params[i].numel(), {averages[i].data(), params[i].data()});
  }
  tables.finish();
}

}  // namespace

void CudaBackend::adamwStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                            const std::vector<Tensor>& m, const std::vector<Tensor>& v,
                            const std::vector<Tensor>& masters, const Tensor& gradScale, double learningRate,
                            double beta1, double beta2, double eps, double weightDecay, int64_t step) {
  momentStep(runtime_, params, grads, m, v, masters, gradScale,
             adamwNumbers(learningRate, beta1, beta2, eps, weightDecay, step));
}

void CudaBackend::radamStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                            const std::vector<Tensor>& m, const std::vector<Tensor>& v,
                            const std::vector<Tensor>& masters, const Tensor& gradScale, double learningRate,
                            double beta1, double beta2, double eps, double weightDecay, bool decoupled, int64_t step) {
  momentStep(runtime_, params, grads, m, v, masters, gradScale,
             radamNumbers(learningRate, beta1, beta2, eps, weightDecay, decoupled, step));
}

void CudaBackend::emaUpdate(const std::vector<Tensor>& averages, const std::vector<Tensor>& params, double decay) {
  forFloatingTypes([&]<class T>() {
    updateAverages<T, T>(runtime_, averages, params, decay);
    if constexpr (!std::is_same_v<T, Compute<T>>) updateAverages<Compute<T>, T>(runtime_, averages, params, decay);
  });
}

void CudaBackend::globalNorm(const Tensor& out, const std::vector<Tensor>& tensors) {
  int64_t count = 0;
  for (const Tensor& x : tensors) count += (x.numel() + kNormChunk - 1) / kNormChunk;
  const Scratch<double> partials(out.device(), std::max<int64_t>(1, count));
  double* next = partials.data();
  forFloatingTypes([&]<class T>() {
    auto tables = tensorTables<kNormChunk, 1>([&](const TensorTable<1>& table, const Grid& grid) {
      launchKernel(runtime_, sumSquaresKernel<T>, grid, next, table);
      next += grid.blocks.x;
    });
    for (const Tensor& x : tensors) {
      if (x.dtype() == DTypeOf<T>::value) tables.add(x.numel(), {x.data()});
    }
    tables.finish();
  });
  const Grid one{dim3(1), dim3(kJoinThreads)};
  if (out.dtype() == DType::Float64)
    launchKernel(runtime_, rootOfSumKernel<double>, one, out.data<double>(), partials.data(), count);
  else
    launchKernel(runtime_, rootOfSumKernel<float>, one, out.data<float>(), partials.data(), count);
}

void CudaBackend::clipScale(const Tensor& out, const Tensor& norm, double maxNorm) {
  dispatchFloating(norm.dtype(), [&]<class T>() {
    launchKernel(runtime_, clipScaleKernel<T>, Grid{dim3(1), dim3(1)}, out.data<float>(), norm.data<const T>(),
                 maxNorm);
  });
}

void CudaBackend::copyInto(const Tensor& target, const Tensor& source) {
  const int64_t n = target.numel();
  if (n == 0) return;
  dispatchAll(target.dtype(), [&]<class To>() {
    dispatchAll(source.dtype(), [&]<class From>() {
      constexpr int64_t kCount = kPacketBytes / std::max(sizeof(To), sizeof(From));
      launchKernel(runtime_, copyIntoKernel<To, From>, gridFor(runtime_, n, kCount), target.data<To>(),
                   source.data<const From>(), n, runtime_.fault());
    });
  });
}

}  // namespace flowmap::cuda
