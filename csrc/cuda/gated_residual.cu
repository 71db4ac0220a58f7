// x + gate ∘ z with a gate per sample: value, value with tangent, and the backward of both, each tensor read once. Sums
// over tokens are cut by the shape alone and joined in a fixed order.
#include "core/dispatch.h"
#include "cuda/backend.h"
#include "cuda/divisor.h"
#include "cuda/lane_groups.cuh"
#include "cuda/packet.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {
namespace {

constexpr int kSums = 2;                // over the tokens: of gate's cotangent and of its tangent's
constexpr int kJoinColumns = 16;        // a block's sums in joinGateSumsKernel; its other threads share the chunks
constexpr int64_t kEnoughUnits = 2048;  // blocks that give any device we expect a few waves
constexpr int64_t kLeastPerThread = 8;  // tokens a thread adds up before more blocks are worth their join

// What arithmetic is done in; what is loaded stays a packet until then, so that no load waits for another's conversion.
template <class T, int kCount>
struct Values {
  Compute<T> at[kCount];
};

// What is absent is zeros.
template <int kCount, class T>
__device__ __forceinline__ Packet<T, kCount> loadOrZero(const T* from, int64_t at) {
  Packet<T, kCount> packet;
  if (from) {
    packet = *reinterpret_cast<const Packet<T, kCount>*>(from + at);
  } else {
#pragma unroll
    for (int i = 0; i < kCount; ++i) packet.at[i] = static_cast<T>(Compute<T>(0));
  }
  return packet;
}

template <class T, int kCount>
__device__ __forceinline__ void store(T* to, int64_t at, const Values<T, kCount>& values) {
  Packet<T, kCount> packet;
#pragma unroll
  for (int i = 0; i < kCount; ++i) packet.at[i] = static_cast<T>(values.at[i]);
  *reinterpret_cast<Packet<T, kCount>*>(to + at) = packet;
}

template <class T, int kCount>
__device__ __forceinline__ Values<T, kCount> valuesOf(const Packet<T, kCount>& packet) {
  Values<T, kCount> values;
#pragma unroll
  for (int i = 0; i < kCount; ++i) values.at[i] = static_cast<Compute<T>>(packet.at[i]);
  return values;
}

// sum + a ∘ b
template <class T, int kCount>
__device__ __forceinline__ void addProduct(Values<T, kCount>& sum, const Packet<T, kCount>& a,
                                           const Packet<T, kCount>& b) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    sum.at[i] = ::fma(static_cast<Compute<T>>(a.at[i]), static_cast<Compute<T>>(b.at[i]), sum.at[i]);
  }
}

template <class T>
struct Operands {
  const T *x, *gate, *z, *tx, *tgate, *tz;
};

struct FlatShape {
  int64_t packets, columns;  // in all, and of a token
  Divisor byColumns, byTokens;
};

template <bool kTangent, int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    gatedResidualKernel(T* y, T* ty, const Operands<T> in, const __grid_constant__ FlatShape shape) {
  using Loaded = Packet<T, kCount>;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t packet = int64_t{blockIdx.x} * kThreads + threadIdx.x; packet < shape.packets; packet += step) {
    int64_t token = packet;
    const int64_t column = shape.byColumns.take(token), at = packet * kCount;
    const int64_t gateAt = (shape.byTokens.divide(token) * shape.columns + column) * kCount;
    const Loaded x = loadOrZero<kCount>(in.x, at), z = loadOrZero<kCount>(in.z, at);
    const Loaded tx = loadOrZero<kCount>(kTangent ? in.tx : nullptr, at);
    const Loaded tz = loadOrZero<kCount>(kTangent ? in.tz : nullptr, at);
    const Loaded gate = loadOrZero<kCount>(in.gate, gateAt);
    const Loaded tgate = loadOrZero<kCount>(kTangent ? in.tgate : nullptr, gateAt);
    Values<T, kCount> sum = valuesOf(x);
    addProduct(sum, gate, z);
    store(y, at, sum);
    if constexpr (kTangent) {
      sum = valuesOf(tx);
      if (in.tgate) addProduct(sum, tgate, z);
      if (in.tz) addProduct(sum, gate, tz);
      store(ty, at, sum);
    }
  }
}

template <class T>
struct Cotangents {
  const T *gate, *z, *tgate, *tz, *g, *h;
};

template <class T>
struct Gradients {
  T *ggate, *gz, *gtgate, *gtz;
};

struct ColumnsShape {
  int64_t tokens, columns;  // of a sample; columns in packets
  int64_t tiles, chunks;    // of `width` columns, of `tokensPerChunk`
  int64_t tokensPerChunk, units;
  Divisor byTiles, byChunks;
  int width;  // threads across; the others share the tokens
};

// A thread walks down a column of packets, `kAhead` tokens asked for before any is waited for. Sums of a chunk go to
// `partials` [units of samples and chunks, kSums, columns], or where a sample is one chunk to where they belong.
template <bool kTangent, int kAhead, int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    gatedResidualVjpKernel(const Gradients<T> out, Compute<T>* partials, const Cotangents<T> in,
                           const __grid_constant__ ColumnsShape shape) {
  using Loaded = Packet<T, kCount>;
  using Sums = Values<T, kCount>;
  constexpr int kKept = kTangent ? kSums : 1;
  __shared__ Sums shared[kKept][kThreads / 2];
  const int across = threadIdx.x % shape.width, down = threadIdx.x / shape.width, depth = kThreads / shape.width;
  const int64_t row = shape.columns * kCount;
  for (int64_t unit = blockIdx.x; unit < shape.units; unit += gridDim.x) {
    int64_t place = unit;
    const int64_t column = shape.byTiles.take(place) * shape.width + across;
    int64_t sample = place;
    const int64_t begin = shape.byChunks.take(sample) * shape.tokensPerChunk;
    const int64_t end = min(shape.tokens, begin + shape.tokensPerChunk), gateAt = sample * row + column * kCount;
    const bool live = column < shape.columns;
    Sums sums[kKept]{};
    if (live) {
      const Loaded gate = loadOrZero<kCount>(in.gate, gateAt);
      const Loaded tgate = loadOrZero<kCount>(kTangent ? in.tgate : nullptr, gateAt);
      for (int64_t first = begin + down; first < end; first += kAhead * depth) {
        Loaded z[kAhead], tz[kAhead], g[kAhead], h[kAhead];
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
          if (first + i * depth >= end) break;
          const int64_t at = (sample * shape.tokens + first + i * depth) * row + column * kCount;
          z[i] = loadOrZero<kCount>(in.z, at);
          g[i] = loadOrZero<kCount>(in.g, at);
          if constexpr (kTangent) {
            tz[i] = loadOrZero<kCount>(in.tz, at);
            h[i] = loadOrZero<kCount>(in.h, at);
          }
        }
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
          if (first + i * depth >= end) break;
          const int64_t at = (sample * shape.tokens + first + i * depth) * row + column * kCount;
          Sums gz{};
          if (in.g) addProduct(gz, g[i], gate);
          if (in.g && in.z) addProduct(sums[0], g[i], z[i]);
          if constexpr (kTangent) {
            if (in.tgate) addProduct(gz, h[i], tgate);
            if (in.tz) addProduct(sums[0], h[i], tz[i]);
            if (in.h && in.z) addProduct(sums[1], h[i], z[i]);
            if (out.gtz) {
              Sums gtz{};
              if (in.h) addProduct(gtz, h[i], gate);
              store(out.gtz, at, gtz);
            }
          }
          if (out.gz) store(out.gz, at, gz);
        }
      }
    }
    if (out.ggate == nullptr && out.gtgate == nullptr) continue;
    for (int rest = depth / 2; rest > 0; rest /= 2) {
      const int mine = threadIdx.x - rest * shape.width;
      if (down >= rest && down < 2 * rest) {
#pragma unroll
        for (int k = 0; k < kKept; ++k) shared[k][mine] = sums[k];
      }
      __syncthreads();
      if (down < rest) {
#pragma unroll
        for (int k = 0; k < kKept; ++k) {
#pragma unroll
          for (int i = 0; i < kCount; ++i) sums[k].at[i] += shared[k][threadIdx.x].at[i];
        }
      }
      __syncthreads();
    }
    if (down > 0 || !live) continue;
#pragma unroll
    for (int k = 0; k < kKept; ++k) {
      T* to = k == 0 ? out.ggate : out.gtgate;
      if (to == nullptr) continue;
      if (partials) {
        Compute<T>* at = partials + (place * kSums + k) * row + column * kCount;
#pragma unroll
        for (int i = 0; i < kCount; ++i) at[i] = sums[k].at[i];
      } else {
        store(to, gateAt, sums[k]);
      }
    }
  }
}

struct JoinShape {
  int64_t chunks, row;   // elements of a row
  int64_t tiles, units;  // of kJoinColumns; in all
  Divisor byTiles;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    joinGateSumsKernel(T* ggate, T* gtgate, const Compute<T>* partials, const __grid_constant__ JoinShape shape) {
  using C = Compute<T>;
  constexpr int kDepth = kThreads / kJoinColumns;
  __shared__ C shared[kThreads];
  const int across = threadIdx.x % kJoinColumns, down = threadIdx.x / kJoinColumns;
  for (int64_t unit = blockIdx.x; unit < shape.units; unit += gridDim.x) {
    int64_t rest = unit;
    const int64_t column = shape.byTiles.take(rest) * kJoinColumns + across, sample = rest / kSums, k = rest % kSums;
    T* to = k == 0 ? ggate : gtgate;
    if (to == nullptr) continue;  // all of the block
    C sum = 0;
    if (column < shape.row) {
      const C* from = partials + (sample * shape.chunks * kSums + k) * shape.row + column;
#pragma unroll 4
      for (int64_t chunk = down; chunk < shape.chunks; chunk += kDepth) sum += from[chunk * kSums * shape.row];
    }
    shared[threadIdx.x] = sum;
    __syncthreads();
    for (int half = kDepth / 2; half > 0; half /= 2) {
      if (down < half) shared[threadIdx.x] += shared[threadIdx.x + half * kJoinColumns];
      __syncthreads();
    }
    if (down == 0 && column < shape.row) to[sample * shape.row + column] = static_cast<T>(shared[threadIdx.x]);
    __syncthreads();
  }
}

template <class T>
const T* dataIf(bool needed, const Tensor& t) {
  return needed ? t.data<const T>() : nullptr;
}

// Threads across: 128 to 512 bytes side by side, and as few as possible beyond the last column.
int threadsAcross(int64_t columns, int packetBytes) {
  int width = 1;
  while (width < columns && width * packetBytes < 512) width *= 2;
  for (int narrower = width / 2; narrower * packetBytes >= 128; narrower /= 2) {
    if (ceilDiv(columns, narrower) * narrower < ceilDiv(columns, width) * width) width = narrower;
  }
  return width;
}

ColumnsShape columnsShape(int64_t samples, int64_t tokens, int64_t columns, int packetBytes) {
  ColumnsShape shape{};
  shape.tokens = tokens;
  shape.columns = columns;
  shape.width = threadsAcross(columns, packetBytes);
  shape.tiles = ceilDiv(columns, shape.width);
  const int64_t places = samples * shape.tiles, depth = kThreads / shape.width;
  shape.chunks = std::clamp<int64_t>(tokens / (depth * kLeastPerThread), 1, ceilDiv(kEnoughUnits, places));
  shape.tokensPerChunk = ceilDiv(tokens, shape.chunks);
  shape.units = places * shape.chunks;
  shape.byTiles = Divisor(shape.tiles, shape.units);
  shape.byChunks = Divisor(shape.chunks, samples * shape.chunks);
  return shape;
}

template <bool kTangent, int kCount, class T>
void gatedVjp(const Runtime& runtime, Device& device, const Gradients<T>& out, const Cotangents<T>& in,
              const Shape& shape) {
  constexpr int kAhead = kTangent ? 1 : 2;
  const int64_t samples = shape[0], tokens = shape[1], width = shape[2];
  const ColumnsShape columns = columnsShape(samples, tokens, width / kCount, kCount * static_cast<int>(sizeof(T)));
  const bool joins = columns.chunks > 1 && (out.ggate || out.gtgate);
  const auto launch = [&](Compute<T>* partials) {
    launchKernel(runtime, gatedResidualVjpKernel<kTangent, kAhead, kCount, T>, unitGrid(columns.units), out, partials,
                 in, columns);
  };
  if (!joins) return launch(nullptr);
  const Scratch<Compute<T>> partials(device, samples * columns.chunks * kSums * width);
  launch(partials.data());
  JoinShape join{columns.chunks, width, ceilDiv(width, kJoinColumns), 0, {}};
  join.units = samples * kSums * join.tiles;
  join.byTiles = Divisor(join.tiles, join.units);
  launchKernel(runtime, joinGateSumsKernel<T>, unitGrid(join.units), out.ggate, out.gtgate, partials.data(), join);
}

}  // namespace

void CudaBackend::gatedResidual(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& gate, const Tensor& z,
                                const Tensor& tx, const Tensor& tgate, const Tensor& tz) {
  const int64_t n = x.numel(), tokens = x.shape()[1], width = x.shape()[2];
  if (n == 0) return;
  dispatchFloating(x.dtype(), [&]<class T>() {
    const Operands<T> in{x.data<const T>(),  gate.data<const T>(),  z.data<const T>(),
                         tx.data<const T>(), tgate.data<const T>(), tz.data<const T>()};
    const auto launch = [&]<bool kTangent, int kCount>() {
      FlatShape shape{n / kCount, width / kCount, {}, {}};
      shape.byColumns = Divisor(shape.columns, shape.packets);
      shape.byTokens = Divisor(tokens, shape.packets);
      launchKernel(runtime_, gatedResidualKernel<kTangent, kCount, T>, gridFor(runtime_, shape.packets), y.data<T>(),
                   ty.data<T>(), in, shape);
    };
    constexpr int kCount = kPacketBytes / sizeof(T);
    const bool whole = width % kCount == 0;
    if (ty)
      whole ? launch.template operator()<true, kCount>() : launch.template operator()<true, 1>();
    else
      whole ? launch.template operator()<false, kCount>() : launch.template operator()<false, 1>();
  });
}

void CudaBackend::gatedResidualVjp(const Tensor& ggate, const Tensor& gz, const Tensor& gtgate, const Tensor& gtz,
                                   const Tensor& gate, const Tensor& z, const Tensor& tgate, const Tensor& tz,
                                   const Tensor& g, const Tensor& h) {
  if (gate.numel() == 0 || (!ggate && !gz && !gtgate && !gtz)) return;
  dispatchFloating(z.dtype(), [&]<class T>() {
    const Gradients<T> out{ggate.data<T>(), gz.data<T>(), gtgate.data<T>(), gtz.data<T>()};
    // What only results need that are not wanted is not read.
    const Cotangents<T> in{dataIf<T>((gz && g) || (gtz && h), gate),
                           dataIf<T>((ggate && g) || (gtgate && h), z),
                           dataIf<T>(gz && h, tgate),
                           dataIf<T>(ggate && h, tz),
                           dataIf<T>(ggate || gz, g),
                           dataIf<T>((ggate && tz) || (gz && tgate) || gtgate || gtz, h)};
    const auto launch = [&]<int kCount>() {
      if (in.h || out.gtgate || out.gtz)
        gatedVjp<true, kCount>(runtime_, z.device(), out, in, z.shape());
      else
        gatedVjp<false, kCount>(runtime_, z.device(), out, in, z.shape());
    };
    constexpr int kCount = kPacketBytes / sizeof(T);
    z.shape()[2] % kCount == 0 ? launch.template operator()<kCount>() : launch.template operator()<1>();
  });
}

}  // namespace flowmap::cuda
