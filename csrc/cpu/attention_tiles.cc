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
#include "cpu/row_vectors-inl.h"
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

template <class C>
void start(SoftmaxState<C>& state) {
  std::fill_n(state.top, state.kMostRows, -std::numeric_limits<C>::infinity());
  for (C* zeros : {state.sum, state.moment, state.shift, state.started, state.moved}) {
    std::fill_n(zeros, state.kMostRows, C(0));
  }
}

// As many rows at a time as a vector has lanes: maxima, sums and what follows from them are one vector's work for all.
template <class C, bool kFollowing>
void softmaxRows(const SoftmaxTile<C>& tile, int64_t first, SoftmaxState<C>& state) {
  const hn::ScalableTag<C> d;
  using V = hn::Vec<decltype(d)>;
  constexpr int64_t kLanes = hn::MaxLanes(d);
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d)), count = std::min(lanes, tile.rows - first);
  const V zero = hn::Zero(d), by = hn::Set(d, tile.scale), one = hn::Set(d, C(1));
  const V lowest = hn::Set(d, -std::numeric_limits<C>::infinity());
  const auto sOf = [&](int64_t i) { return tile.s + (first + i) * tile.width; };
  const auto tOf = [&](int64_t i) { return tile.t + (first + i) * tile.width; };
  HWY_ALIGN C valid[kLanes] = {};
  V tops[kLanes];
  for (int64_t i = 0; i < lanes; ++i) {
    tops[i] = lowest;
    if (i >= count) continue;
    const int64_t there = std::max<int64_t>(tile.valid[first + i], 0);
    C* const s = sOf(i);
    valid[i] = static_cast<C>(there);
    zeroRest(s, there, tile.width);
    if (tile.t) zeroRest(tOf(i), there, tile.width);
    // The tail vector is filled up with a valid score, so that it cannot win.
    for (int64_t j = there; j % lanes != 0; ++j) s[j] = s[0];
    for (int64_t j = 0; j < there; j += lanes) tops[i] = hn::Max(tops[i], hn::Mul(by, hn::LoadU(d, s + j)));
  }
  const auto there = hn::Gt(hn::Load(d, valid), zero);
  const V started = hn::Load(d, state.started + first);
  const auto fresh = hn::And(there, hn::Eq(started, zero));
  V shift = hn::Load(d, state.shift + first);
  if (tile.t && !hn::AllFalse(d, fresh)) {
    V totals[kLanes];
    for (int64_t i = 0; i < lanes; ++i) {
      totals[i] = zero;
      if (i >= count) continue;
      forValid<C>(tile.valid[first + i], [&](int64_t j, auto keep) HWY_ATTR {
        totals[i] = hn::Add(totals[i], keep(hn::LoadU(d, tOf(i) + j)));
      });
    }
    const V mean = hn::Div(hn::Mul(by, sumOfEach(d, totals)), hn::Load(d, valid));
    shift = hn::IfThenElse(fresh, mean, shift);
    hn::Store(shift, d, state.shift + first);
  }
  hn::Store(hn::IfThenElse(there, one, started), d, state.started + first);
  const V before = hn::Load(d, state.top + first), top = hn::Max(before, maxOfEach(d, tops));
  // What there was nothing of need not be rescaled.
  const auto same = hn::Or(hn::Eq(before, top), hn::Eq(started, zero));
  const V factor = hn::IfThenElse(same, one, exp(d, hn::Sub(before, top)));
  hn::Store(top, d, state.top + first);
  hn::Store(factor, d, state.factor + first);
  V sums[kLanes], moments[kLanes];
  for (int64_t i = 0; i < lanes; ++i) {
    sums[i] = moments[i] = zero;
    if (i >= count) continue;
    C *const s = sOf(i), *const t = tile.t ? tOf(i) : nullptr;
    const V from = hn::Set(d, state.top[first + i]), shifted = hn::Set(d, state.shift[first + i]);
    V sum = zero, moment = zero;
    forValid<C>(tile.valid[first + i], [&](int64_t j, auto keep) HWY_ATTR {
      const V weight = keep(exp(d, hn::MulSub(hn::LoadU(d, s + j), by, from)));
      sum = hn::Add(sum, weight);
      hn::StoreU(weight, d, s + j);
      if (t) {
        const V moved = keep(hn::Mul(weight, hn::MulSub(hn::LoadU(d, t + j), by, shifted)));
        moment = hn::Add(moment, moved);
        hn::StoreU(moved, d, t + j);
      }
    });
    sums[i] = sum, moments[i] = moment;
  }
  const V sum = hn::MulAdd(hn::Load(d, state.sum + first), factor, sumOfEach(d, sums));
  V moment = hn::Load(d, state.moment + first);
  if (tile.t) moment = hn::MulAdd(moment, factor, sumOfEach(d, moments));
  if (kFollowing && tile.t) {
    const V moved = hn::IfThenElseZero(hn::Gt(top, before), hn::Div(moment, sum));
    hn::Store(moved, d, state.moved + first);
    moment = hn::NegMulAdd(moved, sum, moment);
    hn::Store(hn::Add(shift, moved), d, state.shift + first);
    for (int64_t i = 0; i < count; ++i) {
      if (state.moved[first + i] == C(0)) continue;
      const V step = hn::Set(d, state.moved[first + i]);
      for (int64_t j = 0; j < tile.valid[first + i]; j += lanes) {
        hn::StoreU(hn::NegMulAdd(step, hn::LoadU(d, sOf(i) + j), hn::LoadU(d, tOf(i) + j)), d, tOf(i) + j);
      }
    }
  }
  hn::Store(sum, d, state.sum + first);
  hn::Store(moment, d, state.moment + first);
}

template <class C, bool kFollowing = false>
void softmax(const SoftmaxTile<C>& tile, SoftmaxState<C>& state) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<C>()));
  for (int64_t first = 0; first < tile.rows; first += lanes) softmaxRows<C, kFollowing>(tile, first, state);
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
void StartSoftmaxF(SoftmaxState<float>& state) { start(state); }
void StartSoftmaxD(SoftmaxState<double>& state) { start(state); }
void SoftmaxTileF(const SoftmaxTile<float>& tile, SoftmaxState<float>& state) { softmax(tile, state); }
void SoftmaxTileD(const SoftmaxTile<double>& tile, SoftmaxState<double>& state) { softmax(tile, state); }
void SoftmaxFollowingTileF(const SoftmaxTile<float>& tile, SoftmaxState<float>& state) {
  softmax<float, true>(tile, state);
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
HWY_EXPORT(StartSoftmaxF);
HWY_EXPORT(StartSoftmaxD);
HWY_EXPORT(SoftmaxTileF);
HWY_EXPORT(SoftmaxTileD);
HWY_EXPORT(SoftmaxFollowingTileF);
HWY_EXPORT(BackwardTileF);
HWY_EXPORT(BackwardTileD);

void transposeTile(const float* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, float* dst) {
  HWY_DYNAMIC_DISPATCH(TransposeTile)(src, stride, rows, dim, width, dst);
}
void outputSums(const OutputSums<float>& sums) { HWY_DYNAMIC_DISPATCH(OutputSumsF)(sums); }
void outputSums(const OutputSums<double>& sums) { HWY_DYNAMIC_DISPATCH(OutputSumsD)(sums); }
void tileProduct(const TileProduct<float>& t) { HWY_DYNAMIC_DISPATCH(ProductF)(t); }
void tileProduct(const TileProduct<double>& t) { HWY_DYNAMIC_DISPATCH(ProductD)(t); }
void startSoftmax(SoftmaxState<float>& state) { HWY_DYNAMIC_DISPATCH(StartSoftmaxF)(state); }
void startSoftmax(SoftmaxState<double>& state) { HWY_DYNAMIC_DISPATCH(StartSoftmaxD)(state); }
void softmaxTile(const SoftmaxTile<float>& tile, SoftmaxState<float>& state) {
  HWY_DYNAMIC_DISPATCH(SoftmaxTileF)(tile, state);
}
void softmaxTile(const SoftmaxTile<double>& tile, SoftmaxState<double>& state) {
  HWY_DYNAMIC_DISPATCH(SoftmaxTileD)(tile, state);
}
void softmaxFollowingTile(const SoftmaxTile<float>& tile, SoftmaxState<float>& state) {
  HWY_DYNAMIC_DISPATCH(SoftmaxFollowingTileF)(tile, state);
}
void backwardTileRow(const BackwardRow<float>& row) { HWY_DYNAMIC_DISPATCH(BackwardTileF)(row); }
void backwardTileRow(const BackwardRow<double>& row) { HWY_DYNAMIC_DISPATCH(BackwardTileD)(row); }

}  // namespace flowmap::cpu
#endif
