// The second kernel of attention's backward: gk, gtk, gv and gtv. A warp owns 16 keys and works on transposed scores,
// so that the weights in its accumulators are the operands of what it sums over queries; a block walks over all the
// query heads of its key head, in order. Where four gradients do not fit into registers, a launch takes two.
#pragma once

#include <cmath>

#include "cuda/attention_backward_products.cuh"
#include "cuda/attention_fused_dq.cuh"

namespace flowmap::cuda {

template <int kDim_, int kWarps, int kQueries_>
struct DkvTile {
  static constexpr int kDim = kDim_, kQueries = kQueries_, kThreads = 32 * kWarps, kRows = 16 * kWarps, kStages = 2;
  static constexpr bool kBoth = true;  // the gradients of tangents, too
};

// kFused: with the gradients of the queries.
template <class Tile, Moving kWhat, KeyGradients kOf, bool kFused = false>
struct DkvShared {
  static constexpr bool kMoving = kWhat != Moving::None, kAll = kWhat == Moving::All;
  static constexpr int kOwn = kTileBytes<Tile::kRows, Tile::kDim>, kOther = kTileBytes<Tile::kQueries, Tile::kDim>;
  static constexpr bool kKeys = kOf != KeyGradients::OfValues, kValues = kOf != KeyGradients::OfKeys;
  static constexpr int kOwnTiles = (kKeys ? 2 : 1) * (kAll ? 2 : 1), kOtherTiles = kMoving ? 4 : 2;
  static constexpr int kK = 0, kTk = kOwn, kV = kAll ? 2 * kOwn : kOwn, kTv = 3 * kOwn;
  static constexpr int kQ = kOwnTiles * kOwn, kG = kQ + kOther, kTq = kQ + 2 * kOther, kH = kQ + 3 * kOther;
  static constexpr int kRow = kQ + kOtherTiles * kOther;  // lse, delta and, with tangents, mu and a
  static constexpr int kStage = kOtherTiles * (kOther + Tile::kQueries * static_cast<int>(sizeof(float)));
  static constexpr int kWeights = kQ + Tile::kStages * kStage;
  static constexpr int kBytes = kWeights + (kFused ? SharedWeights<Tile>::kBytes : 0);
  static_assert(kStage % kTileAlignment == 0);
};

template <class T, class Tile, Moving kWhat, KeyGradients kOf, bool kFused = false>
__global__ void __launch_bounds__(Tile::kThreads, 1) attentionDkvKernel(const __grid_constant__ BackwardParams<T> p) {
  using Shared = DkvShared<Tile, kWhat, kOf, kFused>;
  constexpr bool kMoving = Shared::kMoving, kAll = Shared::kAll, kTangents = kAll && Tile::kBoth;
  constexpr bool kKeys = Shared::kKeys, kValues = Shared::kValues;
  constexpr int kDim = Tile::kDim, kQueries = Tile::kQueries, kThreads = Tile::kThreads, kRows = Tile::kRows;
  constexpr int kColumns = kDim / 8, kChunk = 16, kScores = kChunk / 8;
  constexpr bool kAhead = Tile::kStages > 1;
  extern __shared__ __align__(kTileAlignment) unsigned char shared[];
  // Without g its products are left out, but where registers do not allow the choice: there g is zeros.
  const bool withG = !Tile::kBoth || p.g != nullptr;

  const int keyHeads = p.heads / p.group;
  const int head = p.firstHead + static_cast<int>(blockIdx.y), batch = head / keyHeads, headOfBatch = head % keyHeads;
  const TilePlace place(p, p.packed.keyOffsets, batch, static_cast<int>(blockIdx.x), kRows);
  const int firstKey = place.tile * kRows, length = place.length;
  if (firstKey >= place.keys.count) return;
  const int64_t keyRowAt = p.keyRows.at(batch, headOfBatch, place.keys.first + firstKey), keyAt = keyRowAt * p.dim;
  // Query i sees the keys up to i + past, where causal.
  const int past = place.keys.count - place.queries.count, first = p.causal ? max(0, firstKey - past) / kQueries : 0;
  const int tilesOfHead = firstKey < length ? max(0, (place.queries.count + kQueries - 1) / kQueries - first) : 0;
  const int tiles = tilesOfHead * p.group;

  const auto loadOwn = [&](int at, const T* x) {
    loadTile<kRows, kDim, kThreads>(shared + at, x + keyAt, p.keyRow, x == nullptr ? 0 : length - firstKey, p.dim);
  };
  const auto firstOf = [&](int tile) { return (first + tile % tilesOfHead) * kQueries; };
  const auto headOf = [&](int tile) { return headOfBatch * p.group + tile / tilesOfHead; };
  const auto loadQueries = [&](int tile) {
    const int queryHead = headOf(tile), firstQuery = firstOf(tile), left = place.queries.count - firstQuery;
    const int stage = tile % Tile::kStages * Shared::kStage;
    const int row = place.queries.first + firstQuery;
    const int64_t from = p.queryRows.at(batch, queryHead, row) * p.dim;
    const auto load = [&](int at, const T* x) {
      loadTile<kQueries, kDim, kThreads, !Tile::kBoth>(shared + stage + at, x + from, p.queryRow,
                                                       x == nullptr ? 0 : left, p.dim);
    };
    load(Shared::kQ, p.q);
    load(Shared::kG, p.g);
    if constexpr (kMoving) load(Shared::kTq, p.tq), load(Shared::kH, p.h);
    const int64_t rowsFrom = (int64_t{batch} * p.heads + queryHead) * p.queries + row;
#pragma unroll
    for (int i = threadIdx.x; i < Shared::kOtherTiles * kQueries; i += kThreads) {
      const int which = i / kQueries, row = i % kQueries;
      const float* x = which == 0 ? p.lse : which == 1 ? p.delta : which == 2 ? p.mu : p.a;
      const bool inside = row < left && x != nullptr;
      ptx::cpAsyncZeroFill<4>(shared + stage + Shared::kRow + i * 4, inside ? x + rowsFrom + row : p.lse,
                              inside ? 4 : 0);
    }
  };
  if (tiles > 0) {
    loadOwn(Shared::kK, p.k);
    if constexpr (kAll) loadOwn(Shared::kTk, p.tk);
    if constexpr (kKeys) loadOwn(Shared::kV, p.v);
    if constexpr (kKeys && kAll) loadOwn(Shared::kTv, p.tv);
    loadQueries(0);
    ptx::cpAsyncCommit();
  }

  const int lane = threadIdx.x % 32, warpRow = static_cast<int>(threadIdx.x) / 32 * 16;
  const uint32_t base = ptx::sharedAddress(shared);
  const uint32_t byRows = pieceCursor<kDim, PieceOrder::RowsFirst>(base);
  const uint32_t byColumns = pieceCursor<kDim, PieceOrder::ColumnsFirst>(base);
  const uint32_t weightsCursor = pieceCursor<16, PieceOrder::ColumnsFirst>(base);
  const uint32_t own = byRows + warpRow * TileLayout<kDim>::kRowBytes;
  const bool ofKeys = p.gk != nullptr || p.gtk != nullptr, ofValues = p.gv != nullptr || p.gtv != nullptr;
  float gk[kKeys ? kColumns : 1][4] = {}, gtk[kKeys && kTangents ? kColumns : 1][4] = {};
  float gv[kValues ? kColumns : 1][4] = {}, gtv[kValues && kTangents ? kColumns : 1][4] = {};

  for (int tile = 0; tile < tiles; ++tile) {
    const int stage = tile % Tile::kStages * Shared::kStage;
    ptx::cpAsyncWait<0>();
    if (tile == 0 && !p.kNorm.absent()) {
      normalizeTile<kRows, kDim, kThreads>(
          shared + Shared::kK, kAll ? shared + Shared::kTk : nullptr, p.kNorm, keyRowAt, p.keyRows.row,
          (int64_t{place.group} * keyHeads + headOfBatch) * p.dim, length - firstKey, p.dim);
    }
    if (!p.qNorm.absent()) {
      unsigned char* const queries = shared + stage;
      const int row = place.queries.first + firstOf(tile);
      normalizeTile<kQueries, kDim, kThreads>(queries + Shared::kQ, kMoving ? queries + Shared::kTq : nullptr, p.qNorm,
                                              p.queryRows.at(batch, headOf(tile), row), p.queryRows.row, 0,
                                              place.queries.count - firstOf(tile), p.dim);
    }
    __syncthreads();
    // Nobody reads the other stage any more.
    if constexpr (kAhead) {
      if (tile + 1 < tiles) loadQueries(tile + 1);
      ptx::cpAsyncCommit();
    }

    const int firstQuery = firstOf(tile);
#pragma unroll 1
    for (int chunk = 0; chunk < kQueries; chunk += kChunk) {
      const uint32_t at = stage + chunk * TileLayout<kDim>::kRowBytes;
      const uint32_t columns = byColumns + at, others = byRows + at;
      // Of queries beyond the last all is zero, and so is what they give.
      float s[kScores][4] = {}, t[kMoving ? kScores : 1][4] = {};
      scoreProducts<T, kDim, kAll, kMoving>(s, t, own + Shared::kK, own + Shared::kTk, columns + Shared::kQ,
                                            columns + Shared::kTq);
      const float* known = reinterpret_cast<const float*>(shared + stage + Shared::kRow) + chunk + lane % 4 * 2;
      const auto rowOf = [&](int n, int i) {
        const float* x = known + n * 8 + i % 2;
        return QueryRow{x[0] * kLog2E, kMoving ? x[2 * kQueries] : 0, kMoving ? x[3 * kQueries] : 0, x[kQueries]};
      };
      // The first query of the chunk sees so many of the warp's keys.
      const int seen = firstQuery + chunk + past + 1 - firstKey - warpRow;
      const bool masked = p.causal && seen < 16;
#pragma unroll
      for (int n = 0; n < kScores; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool visible = !masked || lane / 4 + i / 2 * 8 < seen + n * 8 + lane % 4 * 2 + i % 2;
          weigh<kMoving>(s[n][i], kMoving ? &t[n][i] : nullptr, rowOf(n, i), p.scale, visible);
        }
      }
      if constexpr (kValues) {
        if (ofValues) {
          uint32_t weights[1][4], moved[1][4];
          packOperands<T>(weights, s);
          if constexpr (kMoving) {
            packOperands<T>(moved, t);
            if (withG) {
              gradientProducts<T, kDim, kTangents, true>(gv, gtv, moved, weights, others + Shared::kH,
                                                         others + Shared::kG);
            } else {
              gradientProducts<T, kDim, kTangents, false>(gv, gtv, moved, weights, others + Shared::kH, 0);
            }
          } else {
            gradientProducts<T, kDim, false, false>(gv, gtv, weights, moved, others + Shared::kG, 0);
          }
        }
      }
      if constexpr (kKeys) {
        if (ofKeys) {
          float d[kMoving ? kScores : 1][4] = {}, r[kScores][4] = {};
          if constexpr (kMoving) {
            if (withG) {
              scoreProducts<T, kDim, kAll, true>(d, r, own + Shared::kV, own + Shared::kTv, columns + Shared::kH,
                                                 columns + Shared::kG);
            } else {
              scoreProducts<T, kDim, kAll, false>(d, r, own + Shared::kV, own + Shared::kTv, columns + Shared::kH, 0);
            }
          } else {
            scoreProducts<T, kDim, false, false>(r, d, own + Shared::kV, 0, columns + Shared::kG, 0);
          }
#pragma unroll
          for (int n = 0; n < kScores; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const int m = kMoving ? n : 0;
              differentiate<kMoving>(s[n][i], &t[m][i], &d[m][i], r[n][i], rowOf(n, i));
            }
          }
          uint32_t gs[1][4], gt[1][4];
          packOperands<T>(gs, r);
          if constexpr (kMoving) packOperands<T>(gt, d);
          gradientProducts<T, kDim, kTangents, kMoving>(gk, gtk, gs, gt, others + Shared::kQ, others + Shared::kTq);
          if constexpr (kFused) {
            // Keys that do not count are zeros, but their weights may be infinite.
            const int counting = length - firstKey - warpRow - lane / 4;
            if (counting <= 0) gs[0][0] = gs[0][2] = gt[0][0] = gt[0][2] = 0;
            if (counting <= 8) gs[0][1] = gs[0][3] = gt[0][1] = gt[0][3] = 0;
            constexpr int kTile = SharedWeights<Tile>::kTile;
            const int weights = Shared::kWeights + chunk / kChunk % 2 * 2 * kTile;
            shareWeights(shared + weights, warpRow, gs[0]);
            shareWeights(shared + weights + kTile, warpRow, gt[0]);
            __syncthreads();
            const int query = firstQuery + chunk;
            addQueryGradients<T, Tile>(byRows, weightsCursor, weights, Shared::kK, Shared::kTk, p,
                                       p.queryRows.at(batch, headOf(tile), place.queries.first + query),
                                       place.queries.count - query);
          }
        }
      }
    }
    if constexpr (!kAhead) {
      __syncthreads();
      if (tile + 1 < tiles) loadQueries(tile + 1);
      ptx::cpAsyncCommit();
    }
  }

  if constexpr (kFused) __syncthreads();  // all warps read the keys' tile, which is what strips go through
  const auto store = [&](T* to, auto& x, float scale) {
    if (to == nullptr) return;
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        // Keys that do not count have no gradient; what an unknown number of keys gives is unknown.
        const bool counts = firstKey + warpRow + lane / 4 + i / 2 * 8 < length;
        x[n][i] = length < 0 ? NAN : counts ? x[n][i] * scale : 0;
      }
    }
    storeStrip<kDim>(shared + Shared::kK, warpRow, x, to + keyAt + warpRow * p.keyRow, p.keyRow,
                     place.keys.count - firstKey - warpRow, p.dim);
  };
  if constexpr (kKeys) store(p.gk, gk, p.scale);
  if constexpr (kKeys && kTangents) store(p.gtk, gtk, p.scale);
  if constexpr (kValues) store(p.gv, gv, 1);
  if constexpr (kValues && kTangents) store(p.gtv, gtv, 1);
}

}  // namespace flowmap::cuda
