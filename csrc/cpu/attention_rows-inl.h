// What attention does with the rows of a tile, and how it turns tiles. Included once per SIMD level, from within
// HWY_TARGET_INCLUDE files.
#if defined(FLOWMAP_ATTENTION_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLOWMAP_ATTENTION_ROWS_INL_H_
#undef FLOWMAP_ATTENTION_ROWS_INL_H_
#else
#define FLOWMAP_ATTENTION_ROWS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/attention_tiles.h"
#include "cpu/row_vectors-inl.h"
#include "cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

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

// For so many rows, and what more of them a vector takes.
template <class C>
void start(int64_t rows, SoftmaxState<C>& state) {
  const hn::ScalableTag<C> d;
  const auto lowest = hn::Set(d, -std::numeric_limits<C>::infinity()), zero = hn::Zero(d);
  for (int64_t i = 0; i < rows; i += static_cast<int64_t>(hn::Lanes(d))) {
    hn::Store(lowest, d, state.top + i);
    for (C* zeros : {state.sum, state.moment, state.shift, state.started, state.moved}) hn::Store(zero, d, zeros + i);
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
inline void transpose(const float* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, float* dst) {
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

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLOWMAP_ATTENTION_ROWS_INL_H_
