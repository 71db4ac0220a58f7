// Attention and its tangent in one pass over the keys, on tensor cores. A warp owns strips of 16 queries and keeps two
// accumulators, O and Σ P∘(T − c) V + Σ P tV, which share one rescaling factor; c is near T's mean under the weights
// and keeps the second sum small where keys share a large offset or one of them leads. K, tK, V and tV come through
// shared memory, a tile ahead.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/attention_forward_rows.cuh"
#include "cuda/attention_heads.cuh"
#include "cuda/attention_tiles.cuh"

namespace flowmap::cuda {

// Which tangents a kernel knows: what else is absent is read as zeros.
enum class Tangents { None, Queries, All };

// The tile of keys depends on the head size alone, for a result's bits to be the same with and without tangents, on
// every device.
template <int kDim_, int kWarps, int kStrips_, int kKeys_>
struct ForwardTile {
  static constexpr int kDim = kDim_, kStrips = kStrips_, kKeys = kKeys_;  // strips of 16 queries for a warp
  static constexpr int kValueDim = kDim;                                  // columns of the values, see WideForwardTile
  static constexpr int kThreads = 32 * kWarps, kRows = 16 * kWarps * kStrips;
  static constexpr int kStages = 2;
  static constexpr bool kRolled = false;  // copies in loops: fewer registers
};

template <class T>
struct ForwardParams : FusedParams<T> {
  using FusedParams<T>::FusedParams;
  T *o = nullptr, *to = nullptr;  // to may be null where there are no tangents
  float *lse = nullptr, *mu = nullptr;
  int valueDim = 0;  // of v, tv, o and to, where a launch takes some of their columns; lse may then be null
};

// Where the tiles lie in shared memory.
template <class Tile, Tangents kTangents>
struct ForwardShared {
  static constexpr int kQueries = kTileBytes<Tile::kRows, Tile::kDim>, kKeys = kTileBytes<Tile::kKeys, Tile::kDim>;
  static constexpr int kValues = kTileBytes<Tile::kKeys, Tile::kValueDim>;
  static constexpr bool kMoving = kTangents != Tangents::None, kAll = kTangents == Tangents::All;
  static constexpr int kQ = 0, kTq = kQueries, kK = kMoving ? 2 * kQueries : kQueries, kTk = kK + kKeys;
  static constexpr int kV = kK + (kAll ? 2 : 1) * kKeys, kTv = kV + kValues;
  static constexpr int kStage = (kAll ? 2 : 1) * (kKeys + kValues);
  static constexpr int kBytes = kK + Tile::kStages * kStage;
};

template <class T, class Tile, Tangents kTangents>
__global__ void __launch_bounds__(Tile::kThreads, 1)
    attentionForwardKernel(const __grid_constant__ ForwardParams<T> p) {
  using Shared = ForwardShared<Tile, kTangents>;
  constexpr bool kMoving = Shared::kMoving, kAll = Shared::kAll;
  constexpr int kDim = Tile::kDim, kStrips = Tile::kStrips, kKeys = Tile::kKeys, kThreads = Tile::kThreads;
  constexpr int kValueDim = Tile::kValueDim, kColumns = kValueDim / 8, kScores = kKeys / 8;  // accumulators of a strip
  constexpr bool kAhead = Tile::kStages > 1, kWhole = kValueDim == kDim;
  extern __shared__ __align__(kTileAlignment) unsigned char shared[];

  const QueryPlace place(p, Tile::kRows);
  const int length = place.length, rows = place.queries.count - place.firstQuery;
  if (rows <= 0) return;
  // A row sees a prefix of the keys; of an unknown length none.
  const int reach = p.causal ? place.firstQuery + 1 + place.keys.count - place.queries.count : place.keys.count;
  const auto visibleTo = [&](int row) { return min(length, p.causal ? reach + row : reach); };
  const int tiles = (max(visibleTo(min(rows, Tile::kRows) - 1), 0) + kKeys - 1) / kKeys;

  constexpr std::integral_constant<int, kDim> ofKeys;
  constexpr std::integral_constant<int, kValueDim> ofValues;
  const auto load = [&](auto width, int tile, const T* x, const T* tx, int at, int tangentAt) {
    constexpr int kWidth = decltype(width)::value;
    // Made anew each time, as registers are worth more: the compiler is not to know the stride of the tile before.
    int64_t stride = p.keyRow;
    asm volatile("" : "+l"(stride));
    const int64_t from = place.keyAt(p) + tile * (kKeys * stride);
    const int left = length - tile * kKeys, stage = tile % Tile::kStages * Shared::kStage;
    loadTile<kKeys, kWidth, kThreads, Tile::kRolled>(shared + stage + at, x + from, stride, left,
                                                     kWidth == kDim ? p.dim : p.valueDim);
    if constexpr (kAll)
      loadTile<kKeys, kWidth, kThreads, Tile::kRolled>(shared + stage + tangentAt, tx + from, stride,
                                                       tx == nullptr ? 0 : left, kWidth == kDim ? p.dim : p.valueDim);
  };
  if (tiles > 0) {
    const int64_t queryAt = place.queryAt(p);
    loadTile<Tile::kRows, kDim, kThreads>(shared + Shared::kQ, p.q + queryAt, p.queryRow, rows, p.dim);
    if constexpr (kMoving)
      loadTile<Tile::kRows, kDim, kThreads>(shared + Shared::kTq, p.tq + queryAt, p.queryRow,
                                            p.tq == nullptr ? 0 : rows, p.dim);
    load(ofKeys, 0, p.k, p.tk, Shared::kK, Shared::kTk);
    ptx::cpAsyncCommit();
    if constexpr (kAhead) {
      load(ofValues, 0, p.v, p.tv, Shared::kV, Shared::kTv);
      ptx::cpAsyncCommit();
    }
  }

  const int lane = threadIdx.x % 32, warpRow = static_cast<int>(threadIdx.x) / 32 * 16 * kStrips;
  const uint32_t base = ptx::sharedAddress(shared);
  const uint32_t byRows = pieceCursor<kDim, PieceOrder::RowsFirst>(base);
  const uint32_t byColumns = pieceCursor<kDim, PieceOrder::ColumnsFirst>(base);
  const uint32_t byValueRows = pieceCursor<kValueDim, PieceOrder::RowsFirst>(base);
  const uint32_t ownRows = byRows + warpRow * TileLayout<kDim>::kRowBytes;
  const float scale2 = p.scale * kLog2E;
  float o[kStrips][kColumns][4] = {}, to[kMoving ? kStrips : 1][kMoving ? kColumns : 1][4] = {};
  SoftmaxRow state[kStrips][2];
#pragma unroll
  for (int m = 0; m < kStrips; ++m) state[m][0] = state[m][1] = {-INFINITY, 0, 0, 0};

  for (int tile = 0; tile < tiles; ++tile) {
    const int stage = tile % Tile::kStages * Shared::kStage;
    // Nobody reads the other stage of K since the last barrier, nor that of V since the next. Of a single stage it is
    // V that nobody reads since this barrier, and K since the next.
    if constexpr (kAhead) {
      if (tile + 1 < tiles) load(ofKeys, tile + 1, p.k, p.tk, Shared::kK, Shared::kTk);
      ptx::cpAsyncCommit();
    }
    ptx::cpAsyncWait<kAhead ? 2 : 0>();
    if (tile == 0)
      normalizeQueries<Tile::kRows, kDim, kThreads>(shared + Shared::kQ, kMoving ? shared + Shared::kTq : nullptr, p,
                                                    place);
    normalizeKeys<kKeys, kDim, kThreads>(shared + stage + Shared::kK, kAll ? shared + stage + Shared::kTk : nullptr, p,
                                         place, tile);
    __syncthreads();
    if constexpr (!kAhead) {
      load(ofValues, tile, p.v, p.tv, Shared::kV, Shared::kTv);
      ptx::cpAsyncCommit();
    }

    float s[kStrips][kScores][4] = {}, t[kStrips][kMoving ? kScores : 1][4] = {};
#pragma unroll
    for (int d = 0; d < kDim; d += 16) {
      uint32_t q[kStrips][4], tq[kStrips][4];
#pragma unroll
      for (int m = 0; m < kStrips; ++m) {
        loadPiece<kDim>(q[m], ownRows, 16 * m, d, Shared::kQ);
        if constexpr (kMoving) loadPiece<kDim>(tq[m], ownRows, 16 * m, d, Shared::kTq);
      }
#pragma unroll
      for (int n = 0; n < kScores; n += 2) {
        uint32_t k[4], tk[4];
        loadPiece<kDim>(k, byColumns + stage, 8 * n, d, Shared::kK);
        if constexpr (kAll) loadPiece<kDim>(tk, byColumns + stage, 8 * n, d, Shared::kTk);
#pragma unroll
        for (int m = 0; m < kStrips; ++m) {
          multiplyPiece<T>(s[m][n], s[m][n + 1], q[m], k);
          if constexpr (kMoving) multiplyPiece<T>(t[m][n], t[m][n + 1], tq[m], k);
          if constexpr (kAll) multiplyPiece<T>(t[m][n], t[m][n + 1], q[m], tk);
        }
      }
    }

    if constexpr (kAhead) {
      if (tile + 1 < tiles) load(ofValues, tile + 1, p.v, p.tv, Shared::kV, Shared::kTv);
      ptx::cpAsyncCommit();
    }
    const int firstKey = tile * kKeys;
    const bool masked = visibleTo(warpRow) < firstKey + kKeys;
    uint32_t weights[kStrips][kKeys / 16][4], moved[kStrips][kKeys / 16][4];
#pragma unroll
    for (int m = 0; m < kStrips; ++m) {
      const int row = warpRow + 16 * m + lane / 4;
      advanceStrip<kMoving>(state[m], s[m], t[m], o[m], to[kMoving ? m : 0], p.scale, scale2, masked,
                            [&](int half) { return visibleTo(row + half) - firstKey; });
#pragma unroll
      for (int j = 0; j < kKeys / 16; ++j) {
        packOperand<T>(weights[m][j], s[m][2 * j], s[m][2 * j + 1]);
        if constexpr (kMoving) packOperand<T>(moved[m][j], t[m][2 * j], t[m][2 * j + 1]);
      }
    }

    ptx::cpAsyncWait<kAhead ? 2 : 0>();
    __syncthreads();
    if constexpr (!kAhead) {
      if (tile + 1 < tiles) load(ofKeys, tile + 1, p.k, p.tk, Shared::kK, Shared::kTk);
      ptx::cpAsyncCommit();
    }
#pragma unroll
    for (int j = 0; j < kKeys / 16; ++j) {
#pragma unroll
      for (int n = 0; n < kColumns; n += 2) {
        uint32_t v[4], tv[4];
        loadPiece<kValueDim, true>(v, byValueRows + stage, 16 * j, 8 * n, Shared::kV);
        if constexpr (kAll) loadPiece<kValueDim, true>(tv, byValueRows + stage, 16 * j, 8 * n, Shared::kTv);
#pragma unroll
        for (int m = 0; m < kStrips; ++m) {
          multiplyPiece<T>(o[m][n], o[m][n + 1], weights[m][j], v);
          if constexpr (kMoving) multiplyPiece<T>(to[m][n], to[m][n + 1], moved[m][j], v);
          if constexpr (kAll) multiplyPiece<T>(to[m][n], to[m][n + 1], weights[m][j], tv);
        }
      }
    }
  }

  // All of it once more: registers are worth more in the loop.
  const QueryPlace end(p, Tile::kRows);
  const bool known = end.length >= 0;
  const int64_t queryAt = end.queryAt(p), statisticsAt = end.statisticsAt(p);
#pragma unroll
  for (int m = 0; m < kStrips; ++m) {
    const int strip = warpRow + 16 * m;
    const auto end = [&](auto half) {
      constexpr int kHalf = decltype(half)::value;
      const int row = strip + lane / 4 + 8 * kHalf;
      const RowStatistics x =
          endRow<kHalf, kMoving>(state[m][kHalf], o[m], to[kMoving ? m : 0], known, visibleTo(row) > 0);
      if (lane % 4 != 0 || row >= rows) return;
      if (kWhole || p.lse != nullptr) p.lse[statisticsAt + row] = x.lse;
      if (p.mu != nullptr) p.mu[statisticsAt + row] = x.mu;
    };
    end(std::integral_constant<int, 0>());
    end(std::integral_constant<int, 1>());
    storeStrip<kValueDim>(shared + Shared::kQ, strip, o[m], p.o + queryAt + strip * p.queryRow, p.queryRow,
                          rows - strip, kWhole ? p.dim : p.valueDim);
    if constexpr (kMoving) {
      storeStrip<kValueDim>(shared + Shared::kTq, strip, to[m], p.to + queryAt + strip * p.queryRow, p.queryRow,
                            rows - strip, kWhole ? p.dim : p.valueDim);
    } else if (p.to != nullptr) {  // zeros, but for what is not finite
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) o[m][n][i] *= 0;
      }
      storeStrip<kValueDim>(shared + Shared::kQ, strip, o[m], p.to + queryAt + strip * p.queryRow, p.queryRow,
                            rows - strip, kWhole ? p.dim : p.valueDim);
    }
  }
}

template <class T, class Tile, Tangents kTangents>
void launchForwardTile(const Runtime& runtime, const ForwardParams<T>& p, int64_t heads) {
  launchHeads<Tile>(runtime, attentionForwardKernel<T, Tile, kTangents>, ForwardShared<Tile, kTangents>::kBytes, p,
                    p.queries, heads);
}

// The first of the tiles that the device has shared memory for; the last fits every device.
template <class T, Tangents kTangents, class Tile, class... Smaller>
void launchForwardFitting(const Runtime& runtime, const ForwardParams<T>& p, int64_t heads) {
  if constexpr (sizeof...(Smaller) > 0) {
    if (ForwardShared<Tile, kTangents>::kBytes > static_cast<int64_t>(runtime.sharedMemoryPerBlock()))
      return launchForwardFitting<T, kTangents, Smaller...>(runtime, p, heads);
  } else {
    static_assert(ForwardShared<Tile, kTangents>::kBytes <= 99 * 1024);
  }
  launchForwardTile<T, Tile, kTangents>(runtime, p, heads);
}

// Heads wider than 128: see attention_forward_wide.cuh.
template <class T, Tangents kTangents>
void launchForwardWide(const Runtime& runtime, const ForwardParams<T>& p, int64_t heads);

template <class T, Tangents kTangents, bool kWide>
void launchForwardSize(const Runtime& runtime, const ForwardParams<T>& p, int64_t heads) {
  if constexpr (kWide)
    launchForwardWide<T, kTangents>(runtime, p, heads);
  else if (p.dim <= 32)
    launchForwardFitting<T, kTangents, ForwardTile<32, 4, 1, 64>>(runtime, p, heads);
  else if (p.dim <= 64)
    launchForwardFitting<T, kTangents, ForwardTile<64, 4, 2, 32>>(runtime, p, heads);
  else if (p.dim <= 80)
    launchForwardFitting<T, kTangents, ForwardTile<80, 8, 1, 32>>(runtime, p, heads);
  else if (p.dim <= 96)
    launchForwardFitting<T, kTangents, ForwardTile<96, 8, 1, 32>>(runtime, p, heads);
  else if constexpr (kTangents == Tangents::All)
    launchForwardFitting<T, kTangents, ForwardTile<128, 8, 1, 32>, ForwardTile<128, 4, 1, 32>>(runtime, p, heads);
  else
    launchForwardFitting<T, kTangents, ForwardTile<128, 8, 1, 32>>(runtime, p, heads);
}

// Element is BFloat16 or Float16.
template <class Element, bool kWide = false>
void launchAttentionForward(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  using T = TensorCore<Element>;
  const AttentionOperands& in = call.in;
  const auto read = [](const Tensor& x) { return x ? reinterpret_cast<const T*>(x.data<const Element>()) : nullptr; };
  const auto write = [](const Tensor& x) { return x ? reinterpret_cast<T*>(x.data<Element>()) : nullptr; };
  ForwardParams<T> p(call);
  p.q = read(in.q), p.k = read(in.k), p.v = read(in.v);
  p.tq = read(in.tq), p.tk = read(in.tk), p.tv = read(in.tv);
  p.o = write(out.o), p.to = write(out.to);
  p.lse = out.lse.data<float>();
  p.mu = out.mu ? out.mu.data<float>() : nullptr;
  const int64_t heads = call.geometry.batch * call.geometry.queryHeads;
  if (in.tk || in.tv)
    launchForwardSize<T, Tangents::All, kWide>(runtime, p, heads);
  else if (in.tq)
    launchForwardSize<T, Tangents::Queries, kWide>(runtime, p, heads);
  else
    launchForwardSize<T, Tangents::None, kWide>(runtime, p, heads);
}

}  // namespace flowmap::cuda
