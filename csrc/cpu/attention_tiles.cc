// Compiled once per SIMD level.
#include "cpu/attention_tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_tiles.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/attention_blocks.h"
#include "cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

template <int kRows, int kVectors, class C>
HWY_INLINE void micro(const TileProduct<C>& t, int64_t row, int64_t column) {
  const hn::ScalableTag<C> d;
  using V = hn::Vec<decltype(d)>;
  const size_t lanes = hn::Lanes(d);
  V sum[kRows][kVectors];
  C* HWY_RESTRICT c = t.c + row * t.cRow + column;
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      sum[i][j] = hn::Zero(d);
    }
  }
  const C* HWY_RESTRICT a = t.a + row * t.aRow;
  const C* HWY_RESTRICT b = t.b + column;
  for (int64_t p = 0; p < t.k; ++p) {
    V right[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) right[j] = hn::LoadU(d, b + j * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const V left = hn::Set(d, a[i * t.aRow]);
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(left, right[j], sum[i][j]);
    }
    a += t.aColumn;
    b += t.bRow;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      C* to = c + i * t.cRow + j * lanes;
      // Earlier sums join last: a long sum then rounds once per tile, not once per term.
      hn::StoreU(t.accumulate ? hn::Add(sum[i][j], hn::LoadU(d, to)) : sum[i][j], d, to);
    }
  }
}

// Sums are rows × vectors registers; of 32 registers 24 hold sums, of 16 it is 12.
struct Blocks {
#if HWY_TARGET <= HWY_AVX3
  static constexpr int kMaxVectors = 4;
  static constexpr int rowsFor(int vectors) { return vectors == 4 ? 6 : vectors == 3 ? 8 : 12; }
#else
  static constexpr int kMaxVectors = 2;
  static constexpr int rowsFor(int vectors) { return vectors == 2 ? 6 : 8; }
#endif
  template <int kRows, int kVectors, class C>
  static HWY_NOINLINE HWY_ATTR void run(const TileProduct<C>& t, int64_t row, int64_t column) {
    micro<kRows, kVectors>(t, row, column);
  }
};

template <class C>
void product(const TileProduct<C>& t) {
  forBlocks<Blocks>(t, static_cast<int64_t>(hn::Lanes(hn::ScalableTag<C>())));
}

// Calls body(j, keep) for each vector of a row that has a valid column, `keep` zeroing the columns that are not.
template <class C, class Body>
HWY_INLINE void forValid(int64_t valid, Body body) {
  const hn::ScalableTag<C> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t j = 0;
  for (; j + lanes <= valid; j += lanes) body(j, [](auto v) HWY_ATTR { return v; });
  if (j < valid) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(valid - j));
    body(j, [mask](auto v) HWY_ATTR { return hn::IfThenElseZero(mask, v); });
  }
}

// The columns from the last vector with a valid one on.
template <class C>
HWY_INLINE void zeroRest(C* row, int64_t valid, int64_t width) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<C>()));
  const int64_t from = (std::max<int64_t>(valid, 0) + lanes - 1) / lanes * lanes;
  if (from < width) std::fill_n(row + from, width - from, C(0));
}

template <class C, bool kFollowing = false>
C softmaxRow(int64_t width, int64_t valid, C scale, C* HWY_RESTRICT s, C* HWY_RESTRICT t, SoftmaxState<C>& state) {
  const hn::ScalableTag<C> d;
  zeroRest(s, valid, width);
  if (t) zeroRest(t, valid, width);
  if (kFollowing) state.moved = C(0);
  if (valid <= 0) return C(1);
  const C infinity = std::numeric_limits<C>::infinity();
  const auto by = hn::Set(d, scale);
  if (t && !state.started) {
    auto total = hn::Zero(d);
    forValid<C>(valid, [&](int64_t j, auto keep) HWY_ATTR { total = hn::Add(total, keep(hn::LoadU(d, t + j))); });
    state.shift = scale * hn::GetLane(hn::SumOfLanes(d, total)) / static_cast<C>(valid);
  }
  state.started = true;
  // The tail vector is filled up with a valid score, so that it cannot win.
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t j = valid; j % lanes != 0; ++j) s[j] = s[0];
  auto tops = hn::Set(d, -infinity);
  for (int64_t j = 0; j < valid; j += lanes) tops = hn::Max(tops, hn::Mul(by, hn::LoadU(d, s + j)));
  const C top = std::max(state.top, hn::GetLane(hn::MaxOfLanes(d, tops)));
  const C factor = state.top == top ? C(1) : std::exp(state.top - top);
  const auto from = hn::Set(d, top), shift = hn::Set(d, state.shift);
  auto sum = hn::Zero(d), moment = hn::Zero(d);
  forValid<C>(valid, [&](int64_t j, auto keep) HWY_ATTR {
    const auto weight = keep(exp(d, hn::MulSub(hn::LoadU(d, s + j), by, from)));
    sum = hn::Add(sum, weight);
    hn::StoreU(weight, d, s + j);
    if (t) {
      const auto moved = keep(hn::Mul(weight, hn::MulSub(hn::LoadU(d, t + j), by, shift)));
      moment = hn::Add(moment, moved);
      hn::StoreU(moved, d, t + j);
    }
  });
  state.sum = state.sum * factor + hn::GetLane(hn::SumOfLanes(d, sum));
  state.moment = state.moment * factor + hn::GetLane(hn::SumOfLanes(d, moment));
  if (kFollowing && t && top > state.top) {
    state.moved = state.moment / state.sum;
    const auto by = hn::Set(d, state.moved);
    for (int64_t j = 0; j < valid; j += lanes) {
      hn::StoreU(hn::NegMulAdd(by, hn::LoadU(d, s + j), hn::LoadU(d, t + j)), d, t + j);
    }
    state.moment -= state.moved * state.sum;
    state.shift += state.moved;
  }
  state.top = top;
  return factor;
}

template <class C, bool kTangent, bool kSecond>
void backwardRow(const BackwardRow<C>& row) {
  const hn::ScalableTag<C> d;
  C *HWY_RESTRICT s = row.s, *HWY_RESTRICT t = row.t, *HWY_RESTRICT dd = row.d, *HWY_RESTRICT r = row.r;
  zeroRest(s, row.valid, row.width);
  zeroRest(r, row.valid, row.width);
  if (kTangent) zeroRest(t, row.valid, row.width);
  if (kSecond) zeroRest(dd, row.valid, row.width);
  const auto by = hn::Set(d, row.scale), lse = hn::Set(d, row.lse), mu = hn::Set(d, row.mu), a = hn::Set(d, row.a),
             delta = hn::Set(d, row.delta);
  // What a query does not see may be NaN, and zero times NaN is no zero: every result is masked.
  forValid<C>(row.valid, [&](int64_t j, auto keep) HWY_ATTR {
    const auto p = keep(exp(d, hn::MulSub(hn::LoadU(d, s + j), by, lse)));
    hn::StoreU(p, d, s + j);
    auto gs = hn::Mul(p, hn::Sub(hn::LoadU(d, r + j), delta));
    if (kSecond) {
      const auto difference = hn::Sub(hn::LoadU(d, dd + j), a);
      hn::StoreU(keep(hn::Mul(p, difference)), d, dd + j);
      if (kTangent) {
        const auto tp = hn::Mul(p, hn::MulSub(hn::LoadU(d, t + j), by, mu));
        hn::StoreU(keep(tp), d, t + j);
        gs = hn::MulAdd(tp, difference, gs);
      }
    }
    hn::StoreU(keep(gs), d, r + j);
  });
}

template <class C>
void backward(const BackwardRow<C>& row) {
  if (row.d && row.t)
    backwardRow<C, true, true>(row);
  else if (row.d)
    backwardRow<C, false, true>(row);
  else
    backwardRow<C, false, false>(row);
}

// Squares of four by four.
void TransposeTile(const float* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, float* dst) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t p = 0; p < dim; ++p) {
    for (int64_t j = 0; j < width; ++j) dst[p * width + j] = j < rows ? src[j * stride + p] : 0;
  }
#else
  const hn::FixedTag<float, 4> d;
  const hn::FixedTag<double, 2> pairs;
  using V = hn::Vec<decltype(d)>;
  const int64_t whole = dim / 4 * 4;
  for (int64_t j = 0; j < width; j += 4) {
    const float* row[4];
    for (int64_t i = 0; i < 4; ++i) row[i] = src + std::min(j + i, rows - 1) * stride;
    const int64_t there = rows - j;
    const auto load = [&](int64_t i, int64_t p) { return i < there ? hn::LoadU(d, row[i] + p) : hn::Zero(d); };
    float* to = dst + j;
    for (int64_t p = 0; p < whole; p += 4, to += 4 * width) {
      const V a = load(0, p), b = load(1, p), c = load(2, p), e = load(3, p);
      const auto low = [&](V x, V y) { return hn::BitCast(pairs, hn::InterleaveLower(d, x, y)); };
      const auto high = [&](V x, V y) { return hn::BitCast(pairs, hn::InterleaveUpper(d, x, y)); };
      const auto ab = low(a, b), ce = low(c, e), abHigh = high(a, b), ceHigh = high(c, e);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab, ce)), d, to);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab, ce)), d, to + width);
      hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, abHigh, ceHigh)), d, to + 2 * width);
      hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, abHigh, ceHigh)), d, to + 3 * width);
    }
    for (int64_t p = whole; p < dim; ++p, to += width) {
      for (int64_t i = 0; i < 4; ++i) to[i] = i < there ? row[i][p] : 0;
    }
  }
#endif
}

// The sum of x · (y − mean).
template <class C>
HWY_INLINE C dotOfDifference(int64_t n, const C* x, const C* y, const C* mean) {
  const hn::ScalableTag<C> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sums = hn::Zero(d);
  int64_t p = 0;
  for (; p + lanes <= n; p += lanes) {
    sums = hn::MulAdd(hn::LoadU(d, x + p), hn::Sub(hn::LoadU(d, y + p), hn::LoadU(d, mean + p)), sums);
  }
  C sum = hn::GetLane(hn::SumOfLanes(d, sums));
  for (; p < n; ++p) sum += x[p] * (y[p] - mean[p]);
  return sum;
}

template <class C>
void sumOutputs(const OutputSums<C>& t) {
  for (int64_t i = 0; i < t.rows; ++i) {
    const C* o = t.o + i * t.stride;
    const int64_t at = i * t.left;
    t.a[i] = t.h ? dotOfDifference(t.dim, t.h + at, o, t.mean) : C(0);
    t.delta[i] = t.g ? dotOfDifference(t.dim, t.g + at, o, t.mean) : C(0);
    if (t.h && t.to) t.delta[i] += dotOfDifference(t.dim, t.h + at, t.to + i * t.stride, t.tangentMean);
  }
}

void OutputSumsF(const OutputSums<float>& sums) { sumOutputs(sums); }
void OutputSumsD(const OutputSums<double>& sums) { sumOutputs(sums); }
void ProductF(const TileProduct<float>& t) { product(t); }
void ProductD(const TileProduct<double>& t) { product(t); }
float SoftmaxTileF(int64_t width, int64_t valid, float scale, float* s, float* t, SoftmaxState<float>& state) {
  return softmaxRow(width, valid, scale, s, t, state);
}
float SoftmaxFollowingTileF(int64_t width, int64_t valid, float scale, float* s, float* t, SoftmaxState<float>& state) {
  return softmaxRow<float, true>(width, valid, scale, s, t, state);
}
double SoftmaxTileD(int64_t width, int64_t valid, double scale, double* s, double* t, SoftmaxState<double>& state) {
  return softmaxRow(width, valid, scale, s, t, state);
}
void BackwardTileF(const BackwardRow<float>& row) { backward(row); }
void BackwardTileD(const BackwardRow<double>& row) { backward(row); }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(TransposeTile);
HWY_EXPORT(OutputSumsF);
HWY_EXPORT(OutputSumsD);
HWY_EXPORT(ProductF);
HWY_EXPORT(ProductD);
HWY_EXPORT(SoftmaxTileF);
HWY_EXPORT(SoftmaxFollowingTileF);
HWY_EXPORT(SoftmaxTileD);
HWY_EXPORT(BackwardTileF);
HWY_EXPORT(BackwardTileD);

void transposeTile(const float* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, float* dst) {
  HWY_DYNAMIC_DISPATCH(TransposeTile)(src, stride, rows, dim, width, dst);
}
void outputSums(const OutputSums<float>& sums) { HWY_DYNAMIC_DISPATCH(OutputSumsF)(sums); }
void outputSums(const OutputSums<double>& sums) { HWY_DYNAMIC_DISPATCH(OutputSumsD)(sums); }
void tileProduct(const TileProduct<float>& t) { HWY_DYNAMIC_DISPATCH(ProductF)(t); }
void tileProduct(const TileProduct<double>& t) { HWY_DYNAMIC_DISPATCH(ProductD)(t); }
float softmaxTileRow(int64_t width, int64_t valid, float scale, float* s, float* t, SoftmaxState<float>& state) {
  return HWY_DYNAMIC_DISPATCH(SoftmaxTileF)(width, valid, scale, s, t, state);
}
float softmaxFollowingTileRow(int64_t width, int64_t valid, float scale, float* s, float* t,
                              SoftmaxState<float>& state) {
  return HWY_DYNAMIC_DISPATCH(SoftmaxFollowingTileF)(width, valid, scale, s, t, state);
}
double softmaxTileRow(int64_t width, int64_t valid, double scale, double* s, double* t, SoftmaxState<double>& state) {
  return HWY_DYNAMIC_DISPATCH(SoftmaxTileD)(width, valid, scale, s, t, state);
}
void backwardTileRow(const BackwardRow<float>& row) { HWY_DYNAMIC_DISPATCH(BackwardTileF)(row); }
void backwardTileRow(const BackwardRow<double>& row) { HWY_DYNAMIC_DISPATCH(BackwardTileD)(row); }

}  // namespace flowmap::cpu
#endif
