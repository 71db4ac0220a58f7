// What the two backward kernels of attention share: a warp owns 16 rows, of queries or of keys, and meets a chunk of
// the other side's rows. With own rows A, tA and others B, tB, scores are X = A·Bᵀ with their tangent, and gradients of
// the own rows are sums over the others.
#pragma once

#include <cstdint>

#include "cuda/attention_heads.cuh"
#include "cuda/attention_softmax.cuh"
#include "cuda/attention_tiles.cuh"

namespace flowmap::cuda {

// Which tangents a kernel knows; what else is absent is read as zeros. With those of the queries alone, or of nothing,
// keys and values have no tangent that wants a gradient.
enum class Moving { None, Queries, All };

// Which gradients a kernel of the keys' side gives.
enum class KeyGradients { All, OfKeys, OfValues };

template <class T>
struct BackwardParams : FusedParams<T> {
  using FusedParams<T>::FusedParams;
  // null is zero, but for o
  const T *o = nullptr, *to = nullptr, *g = nullptr, *h = nullptr;
  // null is not wanted
  T *gq = nullptr, *gk = nullptr, *gv = nullptr, *gtq = nullptr, *gtk = nullptr, *gtv = nullptr;
  const float *lse = nullptr, *mu = nullptr;    // mu may be null
  float *a = nullptr, *delta = nullptr;         // of each query: h·o, and g·o + h·to
  float *gqSums = nullptr, *gtqSums = nullptr;  // where gq and gtq are added up by atomics: see attention_fused_dq.cuh
};

// x += A·Bᵀ and y += tA·Bᵀ + A·tBᵀ, of the tangents that there are; own cursors are RowsFirst, others' ColumnsFirst.
template <class T, int kDim, bool kOwn, bool kOther, int kTiles, int kMovingTiles>
__device__ __forceinline__ void scoreProducts(float (&x)[kTiles][4], float (&y)[kMovingTiles][4], uint32_t own,
                                              uint32_t ownTangent, uint32_t other, uint32_t otherTangent) {
#pragma unroll
  for (int d = 0; d < kDim; d += 16) {
    uint32_t a[4], ta[4];
    loadPiece<kDim>(a, own, 0, d);
    if constexpr (kOwn) loadPiece<kDim>(ta, ownTangent, 0, d);
#pragma unroll
    for (int n = 0; n < kTiles; n += 2) {
      uint32_t b[4], tb[4];
      loadPiece<kDim>(b, other, 8 * n, d);
      multiplyPiece<T>(x[n], x[n + 1], a, b);
      if constexpr (kOwn) multiplyPiece<T>(y[n], y[n + 1], ta, b);
      if constexpr (kOther) {
        loadPiece<kDim>(tb, otherTangent, 8 * n, d);
        multiplyPiece<T>(y[n], y[n + 1], a, tb);
      }
    }
  }
}

// x += W·B + tW·tB and y += tW·B, where there are tangents of the own rows to give y to, and of the others; weights are
// operands, and all cursors RowsFirst.
template <class T, int kDim, bool kOwn, bool kOther, int kSteps, int kMovingSteps, int kMovingColumns>
__device__ __forceinline__ void gradientProducts(float (&x)[kDim / 8][4], float (&y)[kMovingColumns][4],
                                                 const uint32_t (&w)[kSteps][4], const uint32_t (&tw)[kMovingSteps][4],
                                                 uint32_t other, uint32_t otherTangent) {
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
#pragma unroll
    for (int n = 0; n < kDim / 8; n += 2) {
      uint32_t b[4], tb[4];
      loadPiece<kDim, true>(b, other, 16 * j, 8 * n);
      multiplyPiece<T>(x[n], x[n + 1], w[j], b);
      if constexpr (kOwn) multiplyPiece<T>(y[n], y[n + 1], tw[j], b);
      if constexpr (kOther) {
        loadPiece<kDim, true>(tb, otherTangent, 16 * j, 8 * n);
        multiplyPiece<T>(x[n], x[n + 1], tw[j], tb);
      }
    }
  }
}

// What a query knows of itself; lse2 in base 2.
struct alignas(16) QueryRow {
  float lse2, mu, a, delta;
};

// Scores become weights: s = P and t = P∘(T − mu).
template <bool kMoving>
__device__ __forceinline__ void weigh(float& s, float* t, const QueryRow& row, float scale, bool visible) {
  s = visible ? exp2Fast(s * (scale * kLog2E) - row.lse2) : 0;
  if constexpr (kMoving) *t = visible ? s * (*t * scale - row.mu) : 0;
}

// d = gtP and r = G·Vᵀ + H·tVᵀ become gT and gS.
template <bool kMoving>
__device__ __forceinline__ void differentiate(float s, const float* t, float* d, float& r, const QueryRow& row) {
  r = s * (r - row.delta);
  if constexpr (kMoving) {
    *d -= row.a;
    r += *t * *d;
    *d *= s;
  }
}

template <class T>
__device__ __forceinline__ float dotChunk(const uint4& x, const uint4& y, float sum) {
  const uint32_t xs[4] = {x.x, x.y, x.z, x.w}, ys[4] = {y.x, y.y, y.z, y.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 u = unpackBits<T>(xs[i]), w = unpackBits<T>(ys[i]);
    sum += u.x * w.x + u.y * w.y;
  }
  return sum;
}

// Finds a and delta of a warp's queries and writes them to `known` and to memory. queryAt and statisticsAt are of the
// warp's first row, of which `left` exist; g and h lie in shared memory from row warpRow on, as Layout says.
template <class Layout, bool kMoving, class T>
__device__ __forceinline__ void outputProducts(QueryRow* known, const BackwardParams<T>& p, int64_t queryAt,
                                               int64_t statisticsAt, const unsigned char* g, const unsigned char* h,
                                               int warpRow, int left) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int pass = 0; pass < 4; ++pass) {
    const int row = 4 * pass + lane / 8;
    float a = 0, delta = 0;
#pragma unroll
    for (int first = 0; first < Layout::kChunks; first += 8) {
      const int chunk = first + lane % 8;
      if (row >= left || chunk * 8 >= p.dim) continue;
      const int64_t at = queryAt + row * p.queryRow + chunk * 8;
      const int within = Layout::offset(warpRow + row, chunk);
      const uint4 o = *reinterpret_cast<const uint4*>(p.o + at);
      delta = dotChunk<T>(o, *reinterpret_cast<const uint4*>(g + within), delta);
      if constexpr (kMoving) {
        const uint4 hs = *reinterpret_cast<const uint4*>(h + within);
        a = dotChunk<T>(o, hs, a);
        if (p.to != nullptr) delta = dotChunk<T>(*reinterpret_cast<const uint4*>(p.to + at), hs, delta);
      }
    }
#pragma unroll
    for (int distance = 1; distance < 8; distance *= 2) {
      delta += __shfl_xor_sync(0xffffffffu, delta, distance);
      if constexpr (kMoving) a += __shfl_xor_sync(0xffffffffu, a, distance);
    }
    if (lane % 8 != 0) continue;
    known[row].a = a, known[row].delta = delta;
    if (row >= left) continue;
    p.delta[statisticsAt + row] = delta;
    if constexpr (kMoving) p.a[statisticsAt + row] = a;
  }
}

template <class T, int kTiles>
__device__ __forceinline__ void packOperands(uint32_t (&operands)[kTiles / 2][4], const float (&x)[kTiles][4]) {
#pragma unroll
  for (int j = 0; j < kTiles / 2; ++j) packOperand<T>(operands[j], x[2 * j], x[2 * j + 1]);
}

}  // namespace flowmap::cuda
