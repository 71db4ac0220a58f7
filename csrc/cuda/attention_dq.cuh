// The first kernel of attention's backward: gq and gtq. A warp owns 16 queries, whose gradients stay in registers over
// all keys. It begins with what each query needs to know of its outputs, a = h·o and delta = g·o + h·to, and writes
// that for the second kernel (attention_dkv.cuh).
#pragma once

#include <cmath>

#include "cuda/attention_backward_products.cuh"

namespace flowmap::cuda {

template <int kDim_, int kWarps, int kKeys_>
struct DqTile {
  static constexpr int kDim = kDim_, kKeys = kKeys_, kThreads = 32 * kWarps, kRows = 16 * kWarps, kStages = 2;
  static constexpr bool kBoth = true;  // the gradient of the tangent, too
};

template <class Tile, Moving kWhat>
struct DqShared {
  static constexpr bool kMoving = kWhat != Moving::None, kAll = kWhat == Moving::All;
  static constexpr int kOwn = kTileBytes<Tile::kRows, Tile::kDim>, kOther = kTileBytes<Tile::kKeys, Tile::kDim>;
  static constexpr int kQ = 0, kG = kOwn, kTq = 2 * kOwn, kH = 3 * kOwn;
  static constexpr int kK = (kMoving ? 4 : 2) * kOwn, kV = kK + kOther, kTk = kK + 2 * kOther, kTv = kK + 3 * kOther;
  static constexpr int kStage = (kAll ? 4 : 2) * kOther, kKnown = kK + Tile::kStages * kStage;
  static constexpr int kBytes = kKnown + Tile::kRows * static_cast<int>(sizeof(QueryRow));
};

template <class T, class Tile, Moving kWhat>
__global__ void __launch_bounds__(Tile::kThreads, 1) attentionDqKernel(const __grid_constant__ BackwardParams<T> p) {
  using Shared = DqShared<Tile, kWhat>;
  constexpr bool kMoving = Shared::kMoving, kAll = Shared::kAll, kTangent = kMoving && Tile::kBoth;
  constexpr int kDim = Tile::kDim, kKeys = Tile::kKeys, kThreads = Tile::kThreads, kRows = Tile::kRows;
  constexpr int kColumns = kDim / 8, kScores = kKeys / 8;
  constexpr bool kAhead = Tile::kStages > 1;
  extern __shared__ __align__(kTileAlignment) unsigned char shared[];
  // Without g its products are left out, but where registers do not allow the choice: there g is zeros.
  const bool withG = !Tile::kBoth || p.g != nullptr;

  const QueryPlace place(p, kRows);
  const int length = place.length, rows = place.queries.count - place.firstQuery;
  if (rows <= 0) return;
  // A row sees a prefix of the keys; of an unknown length none.
  const int reach = p.causal ? place.firstQuery + 1 + place.keys.count - place.queries.count : place.keys.count;
  const auto visibleTo = [&](int row) { return min(length, p.causal ? reach + row : reach); };
  const bool wanted = p.gq != nullptr || p.gtq != nullptr;
  const int tiles = wanted ? (max(visibleTo(min(rows, kRows) - 1), 0) + kKeys - 1) / kKeys : 0;

  const int64_t queryAt = place.queryAt(p);
  const auto loadOwn = [&](int at, const T* x) {
    loadTile<kRows, kDim, kThreads>(shared + at, x + queryAt, p.queryRow, x == nullptr ? 0 : rows, p.dim);
  };
  const auto loadKeys = [&](int tile) {
    // Made anew each time: registers are worth more. The compiler is not to know the stride of the tile before.
    int64_t stride = p.keyRow;
    asm volatile("" : "+l"(stride));
    const int64_t from = place.keyAt(p) + tile * (kKeys * stride);
    const int left = length - tile * kKeys, stage = tile % Tile::kStages * Shared::kStage;
    const auto load = [&](int at, const T* x) {
      loadTile<kKeys, kDim, kThreads, !Tile::kBoth>(shared + stage + at, x + from, stride, x == nullptr ? 0 : left,
                                                    p.dim);
    };
    load(Shared::kK, p.k);
    load(Shared::kV, p.v);
    if constexpr (kAll) load(Shared::kTk, p.tk), load(Shared::kTv, p.tv);
  };
  loadOwn(Shared::kQ, p.q);
  loadOwn(Shared::kG, p.g);
  if constexpr (kMoving) loadOwn(Shared::kTq, p.tq), loadOwn(Shared::kH, p.h);
  ptx::cpAsyncCommit();
  if (tiles > 0) loadKeys(0);
  ptx::cpAsyncCommit();

  const int lane = threadIdx.x % 32, warpRow = static_cast<int>(threadIdx.x) / 32 * 16;
  const uint32_t base = ptx::sharedAddress(shared);
  const uint32_t byRows = pieceCursor<kDim, PieceOrder::RowsFirst>(base);
  const uint32_t byColumns = pieceCursor<kDim, PieceOrder::ColumnsFirst>(base);
  const auto ownRows = [&](int at) { return byRows + warpRow * TileLayout<kDim>::kRowBytes + at; };
  QueryRow* const known = reinterpret_cast<QueryRow*>(shared + Shared::kKnown) + warpRow;
  {
    const int64_t statisticsAt = place.statisticsAt(p) + warpRow;
    const int left = rows - warpRow;
    if (lane < 16) {
      known[lane].lse2 = lane < left ? p.lse[statisticsAt + lane] * kLog2E : INFINITY;
      known[lane].mu = kMoving && p.mu != nullptr && lane < left ? p.mu[statisticsAt + lane] : 0;
    }
    ptx::cpAsyncWait<1>();
    normalizeQueries<kRows, kDim, kThreads>(shared + Shared::kQ, kMoving ? shared + Shared::kTq : nullptr, p, place);
    __syncthreads();
    outputProducts<TileLayout<kDim>, kMoving>(known, p, queryAt + warpRow * p.queryRow, statisticsAt,
                                              shared + Shared::kG, shared + Shared::kH, warpRow, left);
  }

  float gq[kColumns][4] = {}, gtq[kTangent ? kColumns : 1][4] = {};
  for (int tile = 0; tile < tiles; ++tile) {
    const int stage = tile % Tile::kStages * Shared::kStage;
    ptx::cpAsyncWait<0>();
    normalizeKeys<kKeys, kDim, kThreads>(shared + stage + Shared::kK, kAll ? shared + stage + Shared::kTk : nullptr, p,
                                         place, tile);
    __syncthreads();
    // Nobody reads the other stage any more.
    if constexpr (kAhead) {
      if (tile + 1 < tiles) loadKeys(tile + 1);
      ptx::cpAsyncCommit();
    }

    const uint32_t columns = byColumns + stage, others = byRows + stage;
    float s[kScores][4] = {}, t[kMoving ? kScores : 1][4] = {};
    scoreProducts<T, kDim, kMoving, kAll>(s, t, ownRows(Shared::kQ), ownRows(Shared::kTq), columns + Shared::kK,
                                          columns + Shared::kTk);
    const int firstKey = tile * kKeys;
    const bool masked = visibleTo(warpRow) < firstKey + kKeys;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int visible = masked ? visibleTo(warpRow + lane / 4 + i / 2 * 8) - firstKey - lane % 4 * 2 - i % 2 : kKeys;
#pragma unroll
      for (int n = 0; n < kScores; ++n)
        weigh<kMoving>(s[n][i], kMoving ? &t[n][i] : nullptr, known[lane / 4 + i / 2 * 8], p.scale, n * 8 < visible);
    }
    float d[kMoving ? kScores : 1][4] = {}, r[kScores][4] = {};
    if constexpr (kMoving) {
      if (withG) {
        scoreProducts<T, kDim, true, kAll>(d, r, ownRows(Shared::kH), ownRows(Shared::kG), columns + Shared::kV,
                                           columns + Shared::kTv);
      } else {
        scoreProducts<T, kDim, false, kAll>(d, r, ownRows(Shared::kH), 0, columns + Shared::kV, columns + Shared::kTv);
      }
    } else {
      scoreProducts<T, kDim, false, false>(r, d, ownRows(Shared::kG), 0, columns + Shared::kV, 0);
    }
#pragma unroll
    for (int n = 0; n < kScores; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int m = kMoving ? n : 0;
        differentiate<kMoving>(s[n][i], &t[m][i], &d[m][i], r[n][i], known[lane / 4 + i / 2 * 8]);
      }
    }
    uint32_t gs[kScores / 2][4], gt[kScores / 2][4];
    packOperands<T>(gs, r);
    if constexpr (kMoving) packOperands<T>(gt, d);
    gradientProducts<T, kDim, kTangent, kAll>(gq, gtq, gs, gt, others + Shared::kK, others + Shared::kTk);
    if constexpr (!kAhead) {
      __syncthreads();
      if (tile + 1 < tiles) loadKeys(tile + 1);
      ptx::cpAsyncCommit();
    }
  }

  if (!wanted) return;
  // All of it once more: registers are worth more in the loop.
  const QueryPlace end(p, kRows);
  const int64_t storeAt = end.queryAt(p) + warpRow * p.queryRow;
  const int left = end.queries.count - end.firstQuery - warpRow;
  // What it is unknown to see has no gradient.
  const float factor = end.length < 0 ? NAN : p.scale;
  const auto store = [&](T* to, float(&x)[kColumns][4]) {
    if (to == nullptr) return;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) x[n][i] *= factor;
    }
    storeStrip<kDim>(shared + Shared::kQ, warpRow, x, to + storeAt, p.queryRow, left, p.dim);
  };
  store(p.gq, gq);
  if constexpr (kTangent) store(p.gtq, gtq);
}

}  // namespace flowmap::cuda
