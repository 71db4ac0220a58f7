// Compiled once per SIMD level.
#include "cpu/attention_short.h"

#include <algorithm>
#include <array>
#include <initializer_list>
#include <utility>

#include "cpu/attention_pack.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_short.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/attention_rows-inl.h"
#include "cpu/row_vectors-inl.h"
#include "cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {
namespace {

using Float = hn::ScalableTag<float>;
using Vector = hn::Vec<Float>;

// A product a b with `count` terms. Element (i, p) of a is a[i · row + p · next]; rows of b are `stride` apart.
struct Term {
  const float* a;
  int64_t row, next;
  const float* b;
  int64_t stride, count;
};

// The sum of at most two products.
struct Terms {
  std::array<Term, 2> all;
  int count = 0;
  void add(bool given, const Term& term) {
    if (given) all[count++] = term;
  }
};

// c [m, n] = factor · sum − mean · beside, row by row; beside [m, n] lies as c does. What is null is left out.
struct Target {
  int64_t m, n;
  float* c;
  int64_t stride;
  const float *factor = nullptr, *mean = nullptr, *beside = nullptr;
};

template <class Place>
HWY_INLINE void write(const Target& to, int64_t row, const Place& place, Vector sum) {
  const Float d;
  const int64_t at = row * to.stride;
  if (to.factor) sum = hn::Mul(sum, hn::Set(d, to.factor[row]));
  if (to.beside) sum = hn::NegMulAdd(hn::Set(d, to.mean[row]), place.load(to.beside + at), sum);
  place.store(sum, to.c + at);
}

template <int kRows, int kVectors, class Last>
HWY_INLINE void block(const Terms& terms, const Target& to, int64_t row, int64_t column, const Last& last) {
  const Float d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  Vector sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::Zero(d);
  }
  for (int which = 0; which < terms.count; ++which) {
    const Term& term = terms.all[which];
    const float *a = term.a + row * term.row, *b = term.b;
    for (int64_t p = 0; p < term.count; ++p, a += term.next, b += term.stride) {
      Vector right[kVectors];
#pragma GCC unroll 4
      for (int j = 0; j + 1 < kVectors; ++j) right[j] = hn::LoadU(d, b + column + j * lanes);
      right[kVectors - 1] = last.load(b);
#pragma GCC unroll 16
      for (int i = 0; i < kRows; ++i) {
        const Vector left = hn::Set(d, a[i * term.row]);
#pragma GCC unroll 4
        for (int j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(left, right[j], sum[i][j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j + 1 < kVectors; ++j) write(to, row + i, WholeVector<float>{column + j * lanes}, sum[i][j]);
    write(to, row + i, last, sum[i][kVectors - 1]);
  }
}

template <int kRows, int kVectors>
HWY_NOINLINE void rowsOfPanel(const Terms& terms, const Target& to, int64_t row, int64_t column) {
  const int64_t at = column + (kVectors - 1) * static_cast<int64_t>(hn::Lanes(Float()));
  if (at + static_cast<int64_t>(hn::Lanes(Float())) <= to.n)
    block<kRows, kVectors>(terms, to, row, column, WholeVector<float>{at});
  else
    block<kRows, kVectors>(terms, to, row, column, PartVector<float>{at, to.n - at});
}

// Sums of a block are rows × vectors registers.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMostVectors = 4, kMostRows = 8;
constexpr int rowsFor(int vectors) { return vectors == 4 ? 4 : 8; }
#else
constexpr int kMostVectors = 2, kMostRows = 8;
constexpr int rowsFor(int vectors) { return vectors == 1 ? 8 : 4; }
#endif

template <int kVectors, int kRows = kMostRows>
void panel(const Terms& terms, const Target& to, int64_t row, int64_t column) {
  if constexpr (kRows <= rowsFor(kVectors)) {
    for (; row + kRows <= to.m; row += kRows) rowsOfPanel<kRows, kVectors>(terms, to, row, column);
  }
  if constexpr (kRows > 1) {
    if (row < to.m) panel<kVectors, kRows / 2>(terms, to, row, column);
  }
}

void compute(const Terms& terms, const Target& to) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(Float()));
  int64_t left = (to.n + lanes - 1) / lanes;
  for (int64_t column = 0; left > 0;) {
    const int64_t take = std::min<int64_t>(left, kMostVectors);
    if (take == 1) panel<1>(terms, to, 0, column);
    if (take == 2) panel<2>(terms, to, 0, column);
    if constexpr (kMostVectors > 2) {
      if (take == 3) panel<3>(terms, to, 0, column);
      if (take == 4) panel<4>(terms, to, 0, column);
    }
    column += take * lanes;
    left -= take;
  }
}

constexpr int64_t kRun = 32;  // terms of O summed before they join the rest

// Hands out parts of the scratch, whole cache lines.
class Room {
 public:
  explicit Room(float* at) : at_(at) {}
  float* take(int64_t count) { return std::exchange(at_, at_ + padded<float>(count)); }

 private:
  float* at_;
};

// to [dim, width], or null where there is nothing.
const float* transposed(const float* from, int64_t stride, int64_t rows, int64_t dim, int64_t width, float* to) {
  if (from) transpose(from, stride, rows, dim, width, to);
  return from ? to : nullptr;
}

void forwardHead(const ShortForward& t, float* scratch) {
  const Float d;
  const ShortHead& in = t.head;
  const int64_t rows = in.queries, width = padded<float>(in.keys), lanes = static_cast<int64_t>(hn::Lanes(d));
  const bool moving = in.tq || in.tk;
  Room room(scratch);
  float *s = room.take(rows * width), *r = room.take(rows * width);
  float *kRoom = room.take(in.dim * width), *tkRoom = room.take(in.dim * width);
  const float* kT = transposed(in.k, in.keyStride, in.keys, in.dim, width, kRoom);
  const float* tkT = transposed(in.tk, in.keyStride, in.keys, in.dim, width, tkRoom);
  const auto scores = [&](std::initializer_list<std::pair<const float*, const float*>> pairs, float* c) {
    Terms terms;
    for (const auto& [a, b] : pairs) terms.add(a && b, {a, in.queryStride, 1, b, width, in.dim});
    compute(terms, {rows, width, c, width});
  };
  scores({{in.q, kT}}, s);
  if (moving) scores({{in.tq, kT}, {in.q, tkT}}, r);
  SoftmaxState<float> state;
  start(rows, state);
  softmax(SoftmaxTile<float>{rows, width, in.visible, in.scale, s, moving ? r : nullptr}, state);

  HWY_ALIGN float factor[kShortQueries], mean[kShortQueries], lse[kShortQueries], mu[kShortQueries];
  const Vector zero = hn::Zero(d), one = hn::Set(d, 1.0f);
  const Vector infinity = hn::Set(d, std::numeric_limits<float>::infinity());
  for (int64_t i = 0; i < rows; i += lanes) {
    const auto unseen = hn::Eq(hn::Load(d, state.started + i), zero);
    const Vector sum = hn::Load(d, state.sum + i);
    const Vector inverse = hn::IfThenZeroElse(unseen, hn::Div(one, sum));  // a NaN stays one
    const Vector moment = hn::Mul(hn::Load(d, state.moment + i), inverse);
    hn::Store(inverse, d, factor + i);
    hn::Store(moment, d, mean + i);
    hn::Store(hn::IfThenElse(unseen, infinity, hn::Add(hn::Load(d, state.top + i), log(d, sum))), d, lse + i);
    hn::Store(hn::Add(hn::Load(d, state.shift + i), moment), d, mu + i);
  }
  std::copy_n(lse, rows, t.lse);
  if (t.mu) std::copy_n(mu, rows, t.mu);

  // What lies beyond the keys that count is never read. The backward pass takes O from terms nearly as large: it is
  // summed in shorter runs than the rest.
  HWY_ALIGN float minusOne[kShortQueries];
  std::fill_n(minusOne, rows, -1.0f);
  for (int64_t from = 0; from < in.length; from += kRun) {
    Terms terms;
    terms.add(true, {s + from, width, 1, in.v + from * in.keyStride, in.keyStride, std::min(kRun, in.length - from)});
    compute(terms, {rows, in.dim, t.o, in.queryStride, factor, minusOne, from > 0 ? t.o : nullptr});
  }
  if (!t.to) return;
  Terms terms;
  terms.add(moving, {r, width, 1, in.v, in.keyStride, in.length});
  terms.add(in.tv, {s, width, 1, in.tv, in.keyStride, in.length});
  compute(terms, {rows, in.dim, t.to, in.queryStride, factor, mean, t.o});
}

// The mean of rows; zeros in place of what is not finite, which then spoils what meets it alone.
void meanOf(const float* x, int64_t stride, int64_t rows, int64_t dim, float* mean) {
  const Float d;
  const Vector count = hn::Set(d, static_cast<float>(rows));
  forVectors<float>(dim, [&](const auto& place) HWY_ATTR {
    Vector sum = hn::Zero(d);
    for (int64_t i = 0; i < rows; ++i) sum = hn::Add(sum, place.load(x + i * stride));
    place.store(hn::IfThenElseZero(hn::IsFinite(sum), hn::Div(sum, count)), mean);
  });
}

// to [rows, padded(dim)] = x − mean
void less(const float* x, int64_t stride, int64_t rows, int64_t dim, const float* mean, float* to) {
  const int64_t width = padded<float>(dim);
  forVectors<float>(dim, [&](const auto& place) HWY_ATTR {
    const Vector constant = place.load(mean);
    for (int64_t i = 0; i < rows; ++i) place.store(hn::Sub(place.load(x + i * stride), constant), to + i * width);
  });
}

// a = H·(O − mean) and delta = G·(O − mean) + H·(tO − tangentMean) of each query.
void sumOutputs(const ShortBackward& t, const float* mean, const float* tangentMean, float* a, float* delta) {
  const Float d;
  const ShortHead& in = t.head;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t first = 0; first < in.queries; first += lanes) {
    Vector ofA[hn::MaxLanes(d)], ofDelta[hn::MaxLanes(d)];
    for (int64_t i = 0; i < lanes; ++i) {
      Vector sumA = hn::Zero(d), sumDelta = hn::Zero(d);
      const int64_t at = std::min(first + i, in.queries - 1) * in.queryStride;
      forVectors<float>(in.dim, [&](const auto& place) HWY_ATTR {
        const Vector o = hn::Sub(place.load(t.o + at), place.load(mean));
        if (t.h) {
          const Vector h = place.load(t.h + at);
          sumA = hn::MulAdd(h, o, sumA);
          if (t.to) sumDelta = hn::MulAdd(h, hn::Sub(place.load(t.to + at), place.load(tangentMean)), sumDelta);
        }
        if (t.g) sumDelta = hn::MulAdd(place.load(t.g + at), o, sumDelta);
      });
      ofA[i] = sumA;
      ofDelta[i] = sumDelta;
    }
    hn::Store(sumOfEach(d, ofA), d, a + first);
    hn::Store(sumOfEach(d, ofDelta), d, delta + first);
  }
}

void backwardHead(const ShortBackward& t, float* scratch) {
  const ShortHead& in = t.head;
  const int64_t rows = in.queries, width = padded<float>(in.keys), natural = padded<float>(in.dim);
  const bool second = t.h, moving = second && (in.tq || in.tk);
  const float *tq = second ? in.tq : nullptr, *tk = second ? in.tk : nullptr, *tv = second ? in.tv : nullptr;
  Room room(scratch);
  const auto tile = [&] { return room.take(rows * width); };
  const auto turned = [&] { return room.take(in.dim * width); };
  const auto keysRoom = [&] { return room.take(in.keys * natural); };
  float *s = tile(), *r = tile(), *x = tile(), *y = tile();
  HWY_ALIGN float zeros[kShortDim] = {}, outputMean[kShortDim], tangentMean[kShortDim], keyMean[kShortDim];

  // Constants that change nothing but the rounding: see attention_backward.cc.
  const bool byTangent = tv && t.to;
  meanOf(t.o, in.queryStride, rows, in.dim, outputMean);
  if (byTangent) meanOf(t.to, in.queryStride, rows, in.dim, tangentMean);
  const float* const ofTangents = byTangent ? tangentMean : zeros;
  HWY_ALIGN float a[kShortQueries], delta[kShortQueries];
  sumOutputs(t, outputMean, ofTangents, a, delta);
  float* const centred = keysRoom();
  const auto values = [&](const float* from, const float* mean) -> const float* {
    float* const to = turned();
    if (!from) return nullptr;
    less(from, in.keyStride, in.keys, in.dim, mean, centred);
    return transposed(centred, natural, in.keys, in.dim, width, to);
  };
  const float *vT = values(in.v, outputMean), *tvT = values(tv, ofTangents);
  const auto keys = [&](const float* from) -> const float* {
    float* const to = keysRoom();
    if (!from) return nullptr;
    meanOf(from, in.keyStride, in.length, in.dim, keyMean);
    less(from, in.keyStride, in.length, in.dim, keyMean, to);
    return to;
  };
  const bool toQueries = t.gq || t.gtq;
  const float *k = keys(toQueries ? in.k : nullptr), *tk0 = keys(t.gq ? tk : nullptr);
  const float* kT = transposed(in.k, in.keyStride, in.keys, in.dim, width, turned());
  const float* tkT = transposed(tk, in.keyStride, in.keys, in.dim, width, turned());

  const auto scores = [&](std::initializer_list<std::pair<const float*, const float*>> pairs, float* c) {
    Terms terms;
    for (const auto& [left, right] : pairs) {
      terms.add(left && right, {left, in.queryStride, 1, right, width, in.dim});
    }
    compute(terms, {rows, width, c, width});
  };
  scores({{in.q, kT}}, s);
  if (moving) scores({{tq, kT}, {in.q, tkT}}, r);
  if (second) scores({{t.h, vT}}, x);
  scores({{t.g, vT}, {t.h, tvT}}, y);
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at = i * width;
    backward(BackwardRow<float>{width, in.visible[i], in.scale, t.lse[i], moving ? t.mu[i] : 0.0f, a[i], delta[i],
                                s + at, moving ? r + at : nullptr, second ? x + at : nullptr, y + at});
  }
  const float *p = s, *tp = moving ? r : nullptr, *gt = second ? x : nullptr, *gs = y;

  HWY_ALIGN float scales[kShortQueries];
  std::fill_n(scales, std::max(rows, in.length), in.scale);
  const auto ofQueries = [&](float* c, std::initializer_list<std::pair<const float*, const float*>> pairs) {
    if (!c) return;
    Terms terms;
    for (const auto& [left, right] : pairs) terms.add(left && right, {left, width, 1, right, natural, in.length});
    compute(terms, {rows, in.dim, c, in.queryStride, scales});
  };
  ofQueries(t.gq, {{gs, k}, {gt, tk0}});
  ofQueries(t.gtq, {{gt, k}});
  const auto ofKeys = [&](float* c, bool scaled, std::initializer_list<std::pair<const float*, const float*>> pairs) {
    if (!c) return;
    Terms terms;
    for (const auto& [left, right] : pairs) terms.add(left && right, {left, 1, width, right, in.queryStride, rows});
    compute(terms, {in.length, in.dim, c, in.keyStride, scaled ? scales : nullptr});
    for (int64_t i = in.length; i < in.keys; ++i) std::fill_n(c + i * in.keyStride, in.dim, 0.0f);
  };
  ofKeys(t.gk, true, {{gs, in.q}, {gt, tq}});
  ofKeys(t.gv, false, {{p, t.g}, {tp, t.h}});
  ofKeys(t.gtk, true, {{gt, in.q}});
  ofKeys(t.gtv, false, {{p, t.h}});
}

}  // namespace

void ShortForwardHead(const ShortForward& t, float* scratch) { forwardHead(t, scratch); }
void ShortBackwardHead(const ShortBackward& t, float* scratch) { backwardHead(t, scratch); }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(ShortForwardHead);
HWY_EXPORT(ShortBackwardHead);

bool isShort(const AttentionGeometry& g, const AttentionSequence& s) {
  return !g.normalize && !g.centerKeys && g.dim > 0 && g.dim <= kShortDim && s.queries > 0 &&
         s.queries <= kShortQueries && s.length > 0 && s.keys <= kShortKeys;
}

ShortHead shortHeadOf(const AttentionGeometry& g, const AttentionOperands& in, const AttentionSequence& s,
                      int64_t queryHead, int64_t keyHead, int64_t* visible) {
  for (int64_t i = 0; i < s.queries; ++i) visible[i] = s.visible(g, i);
  const int64_t queries = s.queryOffset(g, queryHead), keys = s.keyOffset(g, keyHead);
  return {.queries = s.queries,
          .keys = s.keys,
          .length = s.length,
          .dim = g.dim,
          .queryStride = g.rowStride(g.queryHeads),
          .keyStride = g.rowStride(g.keyHeads),
          .visible = visible,
          .scale = static_cast<float>(g.scale),
          .q = rowsFrom(in.q, queries),
          .k = rowsFrom(in.k, keys),
          .v = rowsFrom(in.v, keys),
          .tq = rowsFrom(in.tq, queries),
          .tk = rowsFrom(in.tk, keys),
          .tv = rowsFrom(in.tv, keys)};
}

int64_t shortForwardRoom(int64_t queries, int64_t keys, int64_t dim) {
  const int64_t width = padded<float>(keys);
  return 2 * (queries + dim) * width;
}

int64_t shortBackwardRoom(int64_t queries, int64_t keys, int64_t dim) {
  const int64_t width = padded<float>(keys);
  return 4 * (queries + dim) * width + 3 * keys * padded<float>(dim);
}

void shortForward(const ShortForward& t, float* scratch) { HWY_DYNAMIC_DISPATCH(ShortForwardHead)(t, scratch); }
void shortBackward(const ShortBackward& t, float* scratch) { HWY_DYNAMIC_DISPATCH(ShortBackwardHead)(t, scratch); }

}  // namespace flowmap::cpu
#endif
