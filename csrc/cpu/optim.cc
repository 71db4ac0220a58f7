// The optimiser's kernels: one parallel pass over all tensors, cut into chunks of equal size.
#include <cmath>
#include <vector>

#include "core/dispatch.h"
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

// A step's numbers, in double until the kernel's type is known:
// p ← p · decay − rate · m / (√v · root + eps), or, not adaptive, p ← p · decay − rate · m.
struct MomentStep {
  double beta1, beta2, rate, decay, coupledDecay, root, eps;
};

template <bool kAdaptive, bool kCoupled>
void momentStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
                const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const Tensor& gradScale,
                const MomentStep& with) {
  const double scale = gradScale ? static_cast<double>(*gradScale.data<float>()) : 1.0;
  forChunks(chunksOf(params), [&](const Chunk& chunk, int64_t) {
    const size_t i = chunk.tensor;
    dispatchFloating(params[i].dtype(), [&]<class T>() {
      using C = Compute<T>;
      const C rate = static_cast<C>(with.rate), decay = static_cast<C>(with.decay);
      const C b1 = static_cast<C>(with.beta1), b2 = static_cast<C>(with.beta2), factor = static_cast<C>(scale);
      const C c1 = static_cast<C>(1 - with.beta1), c2 = static_cast<C>(1 - with.beta2);
      const C root = static_cast<C>(with.root), e = static_cast<C>(with.eps);
      const C coupled = static_cast<C>(with.coupledDecay);
      T* p = params[i].data<T>();
      const T* g = grads[i].data<T>();
      C* first = m[i].data<C>();
      C* second = v[i].data<C>();
      C* master = masters.empty() ? nullptr : masters[i].data<C>();
      for (int64_t j = chunk.begin; j < chunk.end; ++j) {
        const C old = master ? master[j] : static_cast<C>(p[j]);
        C gradient = static_cast<C>(g[j]) * factor;
        if constexpr (kCoupled) gradient += coupled * old;
        first[j] = b1 * first[j] + c1 * gradient;
        second[j] = b2 * second[j] + c2 * gradient * gradient;
        C change = rate * first[j];
        if constexpr (kAdaptive) change /= std::sqrt(second[j]) * root + e;
        const C value = old * decay - change;
        if (master) master[j] = value;
        p[j] = static_cast<T>(value);
      }
    });
  });
}

}  // namespace

void CpuBackend::adamwStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                           const std::vector<Tensor>& m, const std::vector<Tensor>& v,
                           const std::vector<Tensor>& masters, const Tensor& gradScale, double learningRate,
                           double beta1, double beta2, double eps, double weightDecay, int64_t step) {
  const double correction1 = 1 - std::pow(beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(beta2, static_cast<double>(step));
  momentStep<true, false>(params, grads, m, v, masters, gradScale,
                          {.beta1 = beta1,
                           .beta2 = beta2,
                           .rate = learningRate / correction1,
                           .decay = 1 - learningRate * weightDecay,
                           .coupledDecay = 0,
                           .root = 1 / std::sqrt(correction2),
                           .eps = eps});
}

void CpuBackend::radamStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                           const std::vector<Tensor>& m, const std::vector<Tensor>& v,
                           const std::vector<Tensor>& masters, const Tensor& gradScale, double learningRate,
                           double beta1, double beta2, double eps, double weightDecay, bool decoupled, int64_t step) {
  const double t = static_cast<double>(step);
  const double power2 = std::pow(beta2, t), correction2 = 1 - power2;
  const double rhoInfinity = 2 / (1 - beta2) - 1;
  const double rho = rhoInfinity - 2 * t * power2 / correction2;
  const bool adaptive = rho > 5;
  const double rectification =
      adaptive ? std::sqrt((rho - 4) * (rho - 2) * rhoInfinity / ((rhoInfinity - 4) * (rhoInfinity - 2) * rho)) : 1.0;
  const double root = 1 / std::sqrt(correction2);
  const MomentStep with{.beta1 = beta1,
                        .beta2 = beta2,
                        .rate = learningRate * rectification / (1 - std::pow(beta1, t)),
                        .decay = decoupled ? 1 - learningRate * weightDecay : 1.0,
                        .coupledDecay = decoupled ? 0.0 : weightDecay,
                        .root = root,
                        .eps = eps * root};  // eps is beside √v, before its correction
  const bool coupled = with.coupledDecay > 0;
  const auto run = adaptive ? (coupled ? momentStep<true, true> : momentStep<true, false>)
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
          average[j] = static_cast<A>(keep * static_cast<C>(average[j]) + take * value);
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
    const double scale = maxNorm / (value + 1e-6);
    *out.data<float>() = static_cast<float>(scale < 1 || scale != scale ? scale : 1.0);  // a NaN norm stays visible
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
