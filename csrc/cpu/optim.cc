// The optimiser's kernels: one parallel pass over all tensors, cut into chunks of equal size.
#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/optim_formulas.h"
#include "cpu/backend.h"
#include "cpu/convert.h"
#include "cpu/parallel.h"

namespace flowmap::cpu {
namespace {

constexpr int64_t kChunk = 8192;

struct Chunk {
  size_t tensor;
  int64_t begin, end;
};

std::vector<Chunk> chunksOf(const std::vector<Tensor>& tensors) {
  std::vector<Chunk> chunks;
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (int64_t begin = 0; begin < tensors[i].numel(); begin += kChunk) {
      chunks.push_back({i, begin, std::min(begin + kChunk, tensors[i].numel())});
    }
  }
  return chunks;
}

template <class Body>
void forChunks(const std::vector<Chunk>& chunks, Body body) {
  parallelFor(static_cast<int64_t>(chunks.size()), chunks.size() > 2, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(chunks[i], i);
  });
}

template <bool kAdaptive, bool kCoupled>
void momentStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
                const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const Tensor& gradScale,
                const MomentStep& with) {
  const double scale = gradScale ? static_cast<double>(*gradScale.data<float>()) : 1.0;
  forChunks(chunksOf(params), [&](const Chunk& chunk, int64_t) {
    const size_t i = chunk.tensor;
    dispatchFloating(params[i].dtype(), [&]<class T>() {
      using C = Compute<T>;
      const MomentNumbers<C> numbers(with);
      const C factor = static_cast<C>(scale);
      T* p = params[i].data<T>();
      const T* g = grads[i].data<T>();
      C* first = m[i].data<C>();
      C* second = v[i].data<C>();
      C* master = masters.empty() ? nullptr : masters[i].data<C>();
      for (int64_t j = chunk.begin; j < chunk.end; ++j) {
        const C old = master ? master[j] : static_cast<C>(p[j]);
        const Moments<C> next = momentUpdate(numbers, kAdaptive, kCoupled, Moments<C>{old, first[j], second[j]},
                                             static_cast<C>(g[j]) * factor);
        first[j] = next.m;
        second[j] = next.v;
        if (master) master[j] = next.value;
        p[j] = static_cast<T>(next.value);
      }
    });
  });
}

}  // namespace

void CpuBackend::adamwStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                           const std::vector<Tensor>& m, const std::vector<Tensor>& v,
                           const std::vector<Tensor>& masters, const Tensor& gradScale, double learningRate,
                           double beta1, double beta2, double eps, double weightDecay, int64_t step) {
  momentStep<true, false>(params, grads, m, v, masters, gradScale,
                          adamwNumbers(learningRate, beta1, beta2, eps, weightDecay, step));
}

void CpuBackend::radamStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                           const std::vector<Tensor>& m, const std::vector<Tensor>& v,
                           const std::vector<Tensor>& masters, const Tensor& gradScale, double learningRate,
                           double beta1, double beta2, double eps, double weightDecay, bool decoupled, int64_t step) {
  const MomentStep with = radamNumbers(learningRate, beta1, beta2, eps, weightDecay, decoupled, step);
  const bool coupled = with.coupled();
  const auto run = with.adaptive ? (coupled ? momentStep<true, true> : momentStep<true, false>)
                                 : (coupled ? momentStep<false, true> : momentStep<false, false>);
  run(params, grads, m, v, masters, gradScale, with);
}

void CpuBackend::emaUpdate(const std::vector<Tensor>& averages, const std::vector<Tensor>& params, double decay) {
  forChunks(chunksOf(params), [&](const Chunk& chunk, int64_t) {
    const size_t i = chunk.tensor;
    dispatchFloating(params[i].dtype(), [&]<class T>() {
      dispatchFloating(averages[i].dtype(), [&]<class A>() {
        using C = Compute<A>;
        const C keep = static_cast<C>(decay), take = static_cast<C>(1 - decay);
        A* average = averages[i].data<A>();
        const T* p = params[i].data<T>();
        for (int64_t j = chunk.begin; j < chunk.end; ++j) {
          const C value = static_cast<C>(static_cast<Compute<T>>(p[j]));
          average[j] = static_cast<A>(averageUpdate(keep, static_cast<C>(average[j]), take, value));
        }
      });
    });
  });
}

void CpuBackend::globalNorm(const Tensor& out, const std::vector<Tensor>& tensors) {
  const std::vector<Chunk> chunks = chunksOf(tensors);
  std::vector<double> partial(chunks.size());
  forChunks(chunks, [&](const Chunk& chunk, int64_t index) {
    dispatchFloating(tensors[chunk.tensor].dtype(), [&]<class T>() {
      const T* x = tensors[chunk.tensor].data<T>();
      double sum[8] = {};
      for (int64_t j = chunk.begin; j < chunk.end; ++j) {
        const double value = static_cast<double>(static_cast<Compute<T>>(x[j]));
        sum[j % 8] += value * value;
      }
      for (double s : sum) partial[index] += s;
    });
  });
  double total = 0;
  for (double s : partial) total += s;
  if (out.dtype() == DType::Float64)
    *out.data<double>() = std::sqrt(total);
  else
    *out.data<float>() = static_cast<float>(std::sqrt(total));
}

void CpuBackend::clipScale(const Tensor& out, const Tensor& norm, double maxNorm) {
  dispatchFloating(norm.dtype(), [&]<class T>() {
    const double value = static_cast<double>(static_cast<Compute<T>>(*norm.data<T>()));
    *out.data<float>() = clipScaleOf(value, maxNorm);
  });
}

void CpuBackend::copyInto(const Tensor& target, const Tensor& source) {
  const int64_t n = target.numel();
  parallelFor(n, n >= kParallelElements, 64, [&](int64_t begin, int64_t end) {
    convertRun(target.dtype(), target.data<char>() + begin * itemSize(target.dtype()), source.dtype(),
               source.data<char>() + begin * itemSize(source.dtype()), end - begin);
  });
}

}  // namespace flowmap::cpu
