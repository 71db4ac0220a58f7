// What QKNorm and the centring of keys need to know before attention begins: two numbers for each row, and the mean of
// each head's keys.
#include <cmath>

#include "core/dispatch.h"
#include "cuda/attention.h"
#include "cuda/attention_heads.cuh"
#include "cuda/lane_groups.cuh"

namespace flowmap::cuda {
namespace {

// A row is the work of `lanes` neighbouring threads, a chunk of 16 bytes each.
template <class T>
__global__ void __launch_bounds__(kThreads)
    rowNormsKernel(float2* norms, const T* x, const T* tx, int64_t rows, int dim, int lanes, float eps) {
  const int lane = threadIdx.x % lanes, perBlock = kThreads / lanes;
  // All lanes of a warp go on together.
  for (int64_t first = int64_t{blockIdx.x} * perBlock; first < rows; first += int64_t{gridDim.x} * perBlock) {
    const int64_t row = first + threadIdx.x / lanes;
    float sums[2] = {};
    if (row < rows && lane * 8 < dim) {
      const uint4 a = *reinterpret_cast<const uint4*>(x + row * dim + lane * 8);
      uint4 b{};
      if (tx != nullptr) b = *reinterpret_cast<const uint4*>(tx + row * dim + lane * 8);
      const uint32_t as[4] = {a.x, a.y, a.z, a.w}, bs[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 u = unpackBits<T>(as[i]), w = unpackBits<T>(bs[i]);
        sums[0] += u.x * u.x + u.y * u.y;
        sums[1] += u.x * w.x + u.y * w.y;
      }
    }
    joinLanes(sums, lanes, Plus<float>());
    if (row >= rows || lane != 0) continue;
    const float r = 1 / sqrtf(sums[0] / dim + eps);
    norms[row] = {r, r * r * (sums[1] / dim)};
  }
}

constexpr int kMeanColumns = 32, kMeanRows = kThreads / kMeanColumns;  // of a block

// The rows of keys that units have: a key head of a batch row or of a sequence.
struct KeyUnits {
  HeadRows rows;
  PackedSequences packed;
  const int32_t* keyLengths;
  int64_t keyHeads, keys, units, dim;

  explicit KeyUnits(const AttentionCall& call)
      : rows(call.geometry, call.geometry.keyHeads, call.geometry.keys),
        packed(call),
        keyLengths(call.in.keyLengths.data<const int32_t>()),
        keyHeads(call.geometry.keyHeads),
        keys(call.geometry.keys),
        units((call.geometry.packed ? call.geometry.sequences : call.geometry.batch) * keyHeads),
        dim(call.geometry.dim) {}

  struct Place {
    int64_t first;  // row number
    int rows, counting;
  };
  // Where it is unknown what counts, nothing does.
  __device__ __forceinline__ Place at(int64_t unit) const {
    const int group = static_cast<int>(unit / keyHeads), head = static_cast<int>(unit % keyHeads);
    if (!packed.absent()) {
      if (*packed.sound == 0) return {0, 0, 0};
      const Span span = PackedSequences::spanOf(packed.keyOffsets, group);
      return {rows.at(0, head, span.first), span.count, span.count};
    }
    const int all = static_cast<int>(keys), length = keyLengths == nullptr ? all : keyLengths[group];
    return {rows.at(group, head, 0), all, length < 0 || length > all ? 0 : length};
  }
};

// A key that is not finite spoils what sees it alone: the mean is zero then. Columns of a unit are the work of a block:
// its threads take every kMeanRows-th key, and add up in order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    keyMeansKernel(Compute<T>* means, Compute<T>* tangentMeans, const T* k, const T* tk, const float2* norms,
                   const T* weight, const __grid_constant__ KeyUnits units) {
  using C = Compute<T>;
  __shared__ C sums[2][kMeanRows][kMeanColumns];
  const int column = threadIdx.x % kMeanColumns, lane = threadIdx.x / kMeanColumns;
  const int64_t across = (units.dim + kMeanColumns - 1) / kMeanColumns;
  for (int64_t block = blockIdx.x; block < units.units * across; block += gridDim.x) {
    const int64_t unit = block / across, at = block % across * kMeanColumns + column;
    const KeyUnits::Place place = units.at(unit);
    const C by = weight != nullptr && at < units.dim ? static_cast<C>(weight[at]) : C(1);
    C sum = 0, tangent = 0;
    if (at < units.dim) {
#pragma unroll 4
      for (int j = lane; j < place.counting; j += kMeanRows) {
        const int64_t row = place.first + j * units.rows.row, from = row * units.dim + at;
        const float2 known = norms == nullptr ? float2{1, 0} : norms[row];
        const C x = static_cast<C>(k[from]);
        sum += known.x * x * by;
        if (tk != nullptr) tangent += known.x * (static_cast<C>(tk[from]) - known.y * x) * by;
      }
    }
    sums[0][lane][column] = sum, sums[1][lane][column] = tangent;
    __syncthreads();
    if (lane < 2 && at < units.dim) {
      C total = 0;
      for (int i = 0; i < kMeanRows; ++i) total += sums[lane][i][column];
      C* const to = lane == 0 ? means : tangentMeans;
      if (to != nullptr)
        to[unit * units.dim + at] = place.counting == 0 || !isfinite(total) ? C(0) : total / place.counting;
    }
    __syncthreads();
  }
}

// means may be null. Keys that do not count become zeros.
template <class T>
__global__ void __launch_bounds__(kThreads)
    countingKeysKernel(T* y, const T* x, const Compute<T>* means, const __grid_constant__ KeyUnits units) {
  using C = Compute<T>;
  for (int64_t unit = blockIdx.x; unit < units.units; unit += gridDim.x) {
    const KeyUnits::Place place = units.at(unit);
    for (int64_t i = threadIdx.x; i < place.rows * units.dim; i += kThreads) {
      const int64_t key = i / units.dim, column = i % units.dim;
      const int64_t at = (place.first + key * units.rows.row) * units.dim + column;
      const C mean = means == nullptr ? C(0) : means[unit * units.dim + column];
      y[at] = static_cast<T>(key < place.counting ? static_cast<C>(x[at]) - mean : C(0));
    }
  }
}

}  // namespace

void attentionRowNorms(const Runtime& runtime, float2* rows, const Tensor& x, const Tensor& tx, double eps) {
  const int dim = static_cast<int>(x.shape()[-1]);
  if (x.numel() == 0) return;
  const auto start = [&]<class Element>(Element*) {
    using T = TensorCore<Element>;
    const auto read = [](const Tensor& t) { return t ? reinterpret_cast<const T*>(t.data<const Element>()) : nullptr; };
    const int lanes = lanesFor(dim / 8, kWarp);
    const int64_t count = x.numel() / dim;
    launchKernel(runtime, rowNormsKernel<T>, gridFor(runtime, count * lanes), rows, read(x), read(tx), count, dim,
                 lanes, static_cast<float>(eps));
  };
  if (x.dtype() == DType::BFloat16)
    start(static_cast<BFloat16*>(nullptr));
  else
    start(static_cast<Float16*>(nullptr));
}

void attentionKeyMeans(const Runtime& runtime, const AttentionCall& call, void* means, void* tangentMeans) {
  const KeyUnits units(call);
  const int64_t blocks = units.units * ((units.dim + kMeanColumns - 1) / kMeanColumns);
  if (blocks == 0) return;
  dispatchFloating(call.in.k.dtype(), [&]<class T>() {
    using C = Compute<T>;
    launchKernel(runtime, keyMeansKernel<T>, unitGrid(blocks), static_cast<C*>(means), static_cast<C*>(tangentMeans),
                 call.in.k.data<const T>(), call.in.tk.data<const T>(), call.keys.rows, call.in.kWeight.data<const T>(),
                 units);
  });
}

void attentionCountingKeys(const Runtime& runtime, const AttentionCall& call, const Tensor& y, const Tensor& x,
                           const void* means) {
  const KeyUnits units(call);
  if (units.units == 0) return;
  dispatchFloating(x.dtype(), [&]<class T>() {
    launchKernel(runtime, countingKeysKernel<T>, unitGrid(units.units), y.data<T>(), x.data<const T>(),
                 static_cast<const Compute<T>*>(means), units);
  });
}

}  // namespace flowmap::cuda
