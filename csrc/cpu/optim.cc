// The optimiser's kernels: one parallel pass over all tensors, cut into chunks of equal size.
#include <cmath>
#include <vector>

#include "core/dispatch.h"
#include "core/optim_formulas.h"
#include "cpu/backend.h"
#include "cpu/convert.h"
#include "cpu/optim_runs.h"
#include "cpu/parallel.h"

namespace flowmap::cpu {
namespace {

constexpr int64_t kChunk = 8192, kRun = 1024;

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

// A run of a tensor in the type C: its own elements, or a converted copy of them, which store() writes back.
template <class C>
class Widened {
 public:
  Widened(const Tensor& x, int64_t begin, int64_t n) : dtype_(x.dtype()), n_(n) {
    source_ = x.data<char>() + begin * itemSize(dtype_);
    if (dtype_ != DTypeOf<C>::value) convertRun(DTypeOf<C>::value, copy_, dtype_, source_, n);
  }
  C* get() { return dtype_ == DTypeOf<C>::value ? reinterpret_cast<C*>(source_) : copy_; }
  void store() const {
    if (dtype_ != DTypeOf<C>::value) convertRun(dtype_, source_, DTypeOf<C>::value, copy_, n_);
  }

 private:
  DType dtype_;
  int64_t n_;
  char* source_;
  C copy_[kRun];
};

// body(begin, n) on runs short enough for a Widened each.
template <class Body>
void forRuns(const Chunk& chunk, Body body) {
  for (int64_t begin = chunk.begin; begin < chunk.end; begin += kRun) body(begin, std::min(kRun, chunk.end - begin));
}

void momentStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
                const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const Tensor& gradScale,
                const MomentStep& with) {
  const double scale = gradScale ? static_cast<double>(*gradScale.data<float>()) : 1.0;
  forChunks(chunksOf(params), [&](const Chunk& chunk, int64_t) {
    const size_t i = chunk.tensor;
    const auto step = [&]<class C>(C) {
      const MomentNumbers<C> numbers(with);
      forRuns(chunk, [&](int64_t begin, int64_t n) {
        Widened<C> gradient(grads[i], begin, n), value(params[i], begin, n);
        C* updated = masters.empty() ? value.get() : masters[i].data<C>() + begin;
        momentRun(numbers, with.adaptive, with.coupled(),
                  {n, updated, m[i].data<C>() + begin, v[i].data<C>() + begin, gradient.get(), static_cast<C>(scale)});
        if (updated != value.get()) std::copy_n(updated, n, value.get());
        value.store();
      });
    };
    if (params[i].dtype() == DType::Float64)
      step(0.0);
    else
      step(0.0f);
  });
}

}  // namespace

void CpuBackend::adamwStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                           const std::vector<Tensor>& m, const std::vector<Tensor>& v,
                           const std::vector<Tensor>& masters, const Tensor& gradScale, double learningRate,
                           double beta1, double beta2, double eps, double weightDecay, int64_t step) {
  momentStep(params, grads, m, v, masters, gradScale, adamwNumbers(learningRate, beta1, beta2, eps, weightDecay, step));
}

void CpuBackend::radamStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                           const std::vector<Tensor>& m, const std::vector<Tensor>& v,
                           const std::vector<Tensor>& masters, const Tensor& gradScale, double learningRate,
                           double beta1, double beta2, double eps, double weightDecay, bool decoupled, int64_t step) {
  const MomentStep with = radamNumbers(learningRate, beta1, beta2, eps, weightDecay, decoupled, step);
  momentStep(params, grads, m, v, masters, gradScale, with);
}

void CpuBackend::emaUpdate(const std::vector<Tensor>& averages, const std::vector<Tensor>& params, double decay) {
  forChunks(chunksOf(params), [&](const Chunk& chunk, int64_t) {
    const size_t i = chunk.tensor;
    const auto average = [&]<class C>(C) {
      forRuns(chunk, [&](int64_t begin, int64_t n) {
        Widened<C> target(averages[i], begin, n), value(params[i], begin, n);
        averageRun(n, static_cast<C>(decay), target.get(), static_cast<C>(1 - decay), value.get());
        target.store();
      });
    };
    if (averages[i].dtype() == DType::Float64)
      average(0.0);
    else
      average(0.0f);
  });
}

void CpuBackend::globalNorm(const Tensor& out, const std::vector<Tensor>& tensors) {
  const std::vector<Chunk> chunks = chunksOf(tensors);
  std::vector<double> partial(chunks.size());
  forChunks(chunks, [&](const Chunk& chunk, int64_t index) {
    const Tensor& x = tensors[chunk.tensor];
    if (x.dtype() == DType::Float64) {
      partial[index] = squaresRun(chunk.end - chunk.begin, x.data<double>() + chunk.begin);
    } else {
      forRuns(chunk,
              [&](int64_t begin, int64_t n) { partial[index] += squaresRun(n, Widened<float>(x, begin, n).get()); });
    }
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
