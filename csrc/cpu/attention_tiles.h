// The arithmetic of one tile of attention: small matrix products with everything in cache, and the softmax between
// them. Rows of tiles are padded to whole vectors; `kTilePad` bytes is a multiple of every vector length.
#pragma once

#include <cstdint>

namespace flowmap::cpu {

constexpr int64_t kTilePad = 64;

// c [m, n] = a b, or += with `accumulate`. Element (i, p) of a is a[i · aRow + p · aColumn]; b [k, n] and c have rows
// of stride bRow and cRow; n is a multiple of the pad.
template <class C>
struct TileProduct {
  int64_t m, n, k;
  const C* a;
  int64_t aRow, aColumn;
  const C* b;
  int64_t bRow;
  C* c;
  int64_t cRow;
  bool accumulate;
};
void tileProduct(const TileProduct<float>& t);
void tileProduct(const TileProduct<double>& t);

// dst [dim, width], column j from row j of src, rows of which are `stride` apart; columns from `rows` on are zero.
// `width` is a multiple of the pad.
void transposeTile(const float* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, float* dst);

// For each of `rows` queries, a = H·(O − mean) and delta = G·(O − mean) + H·(tO − tangentMean), of those of g, h and
// to that are not null. Rows of g and h, operands E, are `left` apart, those of o and to, data T, `stride`.
template <class C, class E = C, class T = C>
struct OutputSums {
  int64_t rows, dim;
  const E *g, *h;
  int64_t left;
  const T *o, *to;
  int64_t stride;
  const C *mean, *tangentMean;
  C *a, *delta;
};
void outputSums(const OutputSums<float>& sums);
void outputSums(const OutputSums<double>& sums);

// Online softmax of queries' rows, tile by tile of keys: what is kept of each row between tiles.
template <class C>
struct SoftmaxState {
  static constexpr int64_t kMostRows = 96;
  alignas(kTilePad) C top[kMostRows];      // running maximum of scale · s
  alignas(kTilePad) C sum[kMostRows];      // of weights
  alignas(kTilePad) C moment[kMostRows];   // of weights · (scale · t − shift)
  alignas(kTilePad) C shift[kMostRows];    // set by the first tile with a valid column
  alignas(kTilePad) C started[kMostRows];  // 1 from that tile on, 0 before
  // Of the last tile: what earlier sums and outputs must be multiplied by, and by how much it moved their shift.
  alignas(kTilePad) C factor[kMostRows];
  alignas(kTilePad) C moved[kMostRows];
};
void startSoftmax(int64_t rows, SoftmaxState<float>& state);
void startSoftmax(int64_t rows, SoftmaxState<double>& state);

// Rows of a tile, `width` apart, of row i of which the first valid[i] columns count. On return s holds the weights
// relative to the new maximum and t (if not null) weights · (scale · t − shift); the rest of both is zero.
template <class C>
struct SoftmaxTile {
  int64_t rows, width;
  const int64_t* valid;
  C scale;
  C *s, *t;
};
void softmaxTile(const SoftmaxTile<float>& tile, SoftmaxState<float>& state);
void softmaxTile(const SoftmaxTile<double>& tile, SoftmaxState<double>& state);

// The same where weights are about to be rounded. What leads may have a T far from all before it, and its product with
// a weight near 1 would be rounded: wherever the maximum rises the shift moves to T's mean under the weights so far, by
// `moved`. What was summed of weights · (scale · t − shift) is to lose `moved` times the sum of weights, after
// rescaling.
void softmaxFollowingTile(const SoftmaxTile<float>& tile, SoftmaxState<float>& state);

// The elementwise part of the backward pass for one row of a tile. In: s and t the products QKᵀ and tQKᵀ + QtKᵀ, d the
// product HVᵀ, r the products GVᵀ + HtVᵀ. Out: s = P, t = tP, d = gT = P∘(d − a), r = gS = P∘(r − delta) + tP∘(d − a).
// t and d may be null where there is no tangent, or no cotangent of it.
template <class C>
struct BackwardRow {
  int64_t width, valid;
  C scale, lse, mu, a, delta;
  C *s, *t, *d, *r;
};
void backwardTileRow(const BackwardRow<float>& row);
void backwardTileRow(const BackwardRow<double>& row);

}  // namespace flowmap::cpu
