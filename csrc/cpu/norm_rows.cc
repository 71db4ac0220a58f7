// Compiled once per SIMD level.
#include "cpu/norm_rows.h"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/norm_rows.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/row_vectors-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

template <class C>
void center(int64_t dim, const C* x, C* out) {
  const hn::ScalableTag<C> d;
  using V = RowVector<C>;
  const C n = static_cast<C>(dim);
  const auto [sum] = sumVectors<C, 1>(dim, [=](auto at, V* sums) HWY_ATTR { sums[0] = hn::Add(sums[0], at.load(x)); });
  const V mean = hn::Set(d, sum / n);
  // Of a part's lanes beyond the row only the sum would know.
  const auto [rest] = sumVectors<C, 1>(dim, [=](auto at, V* sums) HWY_ATTR {
    at.store(hn::Sub(at.load(x), mean), out);
    sums[0] = hn::Add(sums[0], at.load(out));
  });
  const V left = hn::Set(d, rest / n);
  forVectors<C>(dim, [=](auto at) HWY_ATTR { at.store(hn::Sub(at.load(out), left), out); });
}

// How a row is scaled and moved: what is absent costs nothing where all of a kind is. By value: what is behind a
// reference is read again after every store.
template <class C, bool kScaled, bool kModulated>
struct Affine {
  using V = RowVector<C>;
  V offset;
  const C *gains, *tgains, *shifts, *tshifts;

  explicit Affine(const NormRows<C>& row)
      : offset(hn::Set(hn::ScalableTag<C>(), row.offset)),
        gains(row.gain),
        tgains(row.tgain),
        shifts(row.shift),
        tshifts(row.tshift) {}
  HWY_INLINE V scale(auto at, V x) const { return kScaled ? hn::Mul(x, hn::Add(offset, at.load(gains))) : x; }
  // x̂ (offset + gain) + shift
  HWY_INLINE V value(auto at, V unit) const {
    return kModulated ? hn::Add(scale(at, unit), at.load(shifts)) : scale(at, unit);
  }
  // u (offset + gain) + x̂ tgain + tshift
  HWY_INLINE V tangent(auto at, V unit, V tunit) const {
    const V scaled = scale(at, tunit);
    return kModulated ? hn::Add(hn::MulAdd(unit, at.load(tgains), scaled), at.load(tshifts)) : scaled;
  }
  // The cotangent of x̂: g (offset + gain) + h tgain
  HWY_INLINE V pulled(auto at, V g, V h) const {
    return kModulated ? hn::MulAdd(h, at.load(tgains), scale(at, g)) : scale(at, g);
  }
};

template <class C, class Body>
void withAffine(const NormRows<C>& row, Body body) {
  if (row.modulated)
    body(Affine<C, true, true>(row));
  else if (row.scaled)
    body(Affine<C, true, false>(row));
  else
    body(Affine<C, false, false>(row));
}

// Brings the rows that come next nearer, place by place, while the bus has nothing else to do.
template <int Count>
struct Ahead {
  const char* rows[Count];
  int64_t item;
  bool known;

  template <class C>
  explicit Ahead(const NormRows<C>& row) : item(row.nextItem), known(row.next[0] != nullptr) {
    for (int i = 0; i < Count; ++i) rows[i] = row.next[i] ? row.next[i] : row.next[0];
  }
  HWY_INLINE void fetch(int64_t at) const {
    if (!known) return;
    for (int i = 0; i < Count; ++i) hwy::Prefetch(rows[i] + at * item);
  }
};

template <class C>
void normForwardLong(const NormRows<C>& row, C* y, C* ty) {
  const hn::ScalableTag<C> d;
  using V = RowVector<C>;
  const int64_t dim = row.dim;
  const C *x = row.x[0], *tx = row.tx[0], n = static_cast<C>(dim), eps = row.eps;
  withAffine(row, [=, &row](auto affine) HWY_ATTR {
    if (!ty) {
      const auto [squares] = sumVectors<C, 1>(dim, [&](auto at, V* sums) HWY_ATTR {
        const V a = at.load(x);
        sums[0] = hn::MulAdd(a, a, sums[0]);
      });
      const V r = hn::Set(d, C(1) / std::sqrt(squares / n + eps));
      const Ahead<1> ahead(row);
      forVectors<C>(dim, [&](auto at) HWY_ATTR {
        ahead.fetch(at.at);
        at.store(affine.value(at, hn::Mul(at.load(x), r)), y);
      });
      return;
    }
    const auto [squares, products] = sumVectors<C, 2>(dim, [&](auto at, V* sums) HWY_ATTR {
      const V a = at.load(x);
      sums[0] = hn::MulAdd(a, a, sums[0]);
      sums[1] = hn::MulAdd(a, at.load(tx), sums[1]);
    });
    const C inverse = C(1) / std::sqrt(squares / n + eps);
    const V r = hn::Set(d, inverse), c = hn::Set(d, inverse * products / n);
    const Ahead<2> ahead(row);
    forVectors<C>(dim, [&](auto at) HWY_ATTR {
      ahead.fetch(at.at);
      const V unit = hn::Mul(at.load(x), r);
      const V tunit = hn::Mul(r, hn::NegMulAdd(unit, c, at.load(tx)));
      at.store(affine.tangent(at, unit, tunit), ty);
      at.store(affine.value(at, unit), y);
    });
  });
}

template <class C>
void normBackwardLong(const NormRows<C>& row, const NormRowsGradients<C>& out) {
  const hn::ScalableTag<C> d;
  using V = RowVector<C>;
  const int64_t dim = row.dim;
  const C *x = row.x[0], *tx = row.tx[0], *g = out.g[0], *h = out.h[0], n = static_cast<C>(dim), eps = row.eps;
  C *const gx = out.gx[0], *const gtx = out.gtx[0], *const gainSum = out.gainSum, *const tgainSum = out.tgainSum;
  const Ahead<4> ahead(row);
  withAffine(row, [=](auto affine) HWY_ATTR {
    const auto [squares, products, alongG, alongH, withTx] = sumVectors<C, 5>(dim, [&](auto at, V* sums) HWY_ATTR {
      const V a = at.load(x), b = at.load(tx), pulledG = at.load(g), pulledH = at.load(h);
      const V scaled = affine.scale(at, pulledH);
      sums[0] = hn::MulAdd(a, a, sums[0]);
      sums[1] = hn::MulAdd(a, b, sums[1]);
      sums[2] = hn::MulAdd(a, affine.pulled(at, pulledG, pulledH), sums[2]);
      sums[3] = hn::MulAdd(a, scaled, sums[3]);
      sums[4] = hn::MulAdd(b, scaled, sums[4]);
    });
    const C inverse = C(1) / std::sqrt(squares / n + eps), mean = inverse * products / n;
    const C inG = inverse * alongG / n, inH = inverse * alongH / n;
    const V r = hn::Set(d, inverse), c = hn::Set(d, mean), unitG = hn::Set(d, inG), unitH = hn::Set(d, inH);
    const V rr = hn::Set(d, inverse * inverse), along = hn::Set(d, withTx / n - 3 * inH * mean);
    forVectors<C>(dim, [&](auto at) HWY_ATTR {
      ahead.fetch(at.at);
      const V unit = hn::Mul(at.load(x), r), b = at.load(tx), pulledG = at.load(g), pulledH = at.load(h);
      const V scaled = affine.scale(at, pulledH);
      if (gx) {
        const V first = hn::NegMulAdd(unit, unitG, affine.pulled(at, pulledG, pulledH));
        const V second = hn::MulAdd(unit, along, hn::MulAdd(c, scaled, hn::Mul(unitH, b)));
        at.store(hn::NegMulAdd(rr, second, hn::Mul(r, first)), gx);
      }
      if (gtx) at.store(hn::Mul(r, hn::NegMulAdd(unit, unitH, scaled)), gtx);
      if (gainSum) {
        const V tunit = hn::Mul(r, hn::NegMulAdd(unit, c, b));
        at.store(hn::MulAdd(pulledG, unit, hn::MulAdd(pulledH, tunit, at.load(gainSum))), gainSum);
      }
      if (tgainSum) at.store(hn::MulAdd(pulledH, unit, at.load(tgainSum)), tgainSum);
    });
  });
  if (C* const sum = out.shiftSum) {
    forVectors<C>(dim, [&](auto at) HWY_ATTR { at.store(hn::Add(at.load(sum), at.load(g)), sum); });
  }
  if (C* const sum = out.tshiftSum) {
    forVectors<C>(dim, [&](auto at) HWY_ATTR { at.store(hn::Add(at.load(sum), at.load(h)), sum); });
  }
}

// What sums over short rows come to, by lane: of as many rows as a vector has lanes.
template <class C, int Count>
struct SumsOfRows {
  RowVector<C> of[Count];
};

// body(row, place, sums) adds what it finds of a row to each of `Count` sums, for `count` rows from `first` on.
template <class C, int Count, class Body>
HWY_INLINE SumsOfRows<C, Count> sumShortRows(int64_t first, int64_t count, int64_t dim, Body body) {
  const hn::ScalableTag<C> d;
  using V = RowVector<C>;
  constexpr int kLanes = hn::MaxLanes(d);
  V partial[Count][kLanes];
  for (int i = 0; i < kLanes; ++i) {
    V sums[Count];
    for (V& sum : sums) sum = hn::Zero(d);
    if (i < count) forVectors<C>(dim, [&](auto at) HWY_ATTR { body(first + i, at, sums); });
    for (int j = 0; j < Count; ++j) partial[j][i] = sums[j];
  }
  SumsOfRows<C, Count> result;
  for (int j = 0; j < Count; ++j) result.of[j] = sumOfEach(d, partial[j]);
  return result;
}

// Results of rows, lane by lane, for the places of each.
template <class C>
struct PerRow {
  HWY_ALIGN C lanes[hn::MaxLanes(hn::ScalableTag<C>())];
  explicit PerRow(RowVector<C> x) { hn::Store(x, hn::ScalableTag<C>(), lanes); }
  HWY_INLINE RowVector<C> operator()(int64_t row) const { return hn::Set(hn::ScalableTag<C>(), lanes[row]); }
};

template <class C>
void normForwardShort(const NormRows<C>& rows, const RowsOut<C>& y, const RowsOut<C>& ty) {
  const hn::ScalableTag<C> d;
  using V = RowVector<C>;
  const int64_t dim = rows.dim, lanes = static_cast<int64_t>(hn::Lanes(d));
  const V one = hn::Set(d, C(1)), n = hn::Set(d, static_cast<C>(dim)), eps = hn::Set(d, rows.eps);
  const auto inverseOf = [=](V squares) HWY_ATTR { return hn::Div(one, hn::Sqrt(hn::Add(hn::Div(squares, n), eps))); };
  withAffine(rows, [&](auto affine) HWY_ATTR {
    for (int64_t first = 0; first < rows.count; first += lanes) {
      const int64_t count = std::min(lanes, rows.count - first);
      if (!ty[0]) {
        const auto sums = sumShortRows<C, 1>(first, count, dim, [&](int64_t i, auto at, V* sum) HWY_ATTR {
          const V a = at.load(rows.x[i]);
          sum[0] = hn::MulAdd(a, a, sum[0]);
        });
        const PerRow<C> r(inverseOf(sums.of[0]));
        for (int64_t i = 0; i < count; ++i) {
          const C* x = rows.x[first + i];
          C* to = y[first + i];
          forVectors<C>(dim, [&](auto at) HWY_ATTR { at.store(affine.value(at, hn::Mul(at.load(x), r(i))), to); });
        }
        continue;
      }
      const auto sums = sumShortRows<C, 2>(first, count, dim, [&](int64_t i, auto at, V* sum) HWY_ATTR {
        const V a = at.load(rows.x[i]);
        sum[0] = hn::MulAdd(a, a, sum[0]);
        sum[1] = hn::MulAdd(a, at.load(rows.tx[i]), sum[1]);
      });
      const V inverse = inverseOf(sums.of[0]);
      const PerRow<C> r(inverse), c(hn::Div(hn::Mul(inverse, sums.of[1]), n));
      for (int64_t i = 0; i < count; ++i) {
        const C *x = rows.x[first + i], *tx = rows.tx[first + i];
        C *to = y[first + i], *tangentTo = ty[first + i];
        forVectors<C>(dim, [&](auto at) HWY_ATTR {
          const V unit = hn::Mul(at.load(x), r(i));
          const V tunit = hn::Mul(r(i), hn::NegMulAdd(unit, c(i), at.load(tx)));
          at.store(affine.tangent(at, unit, tunit), tangentTo);
          at.store(affine.value(at, unit), to);
        });
      }
    }
  });
}

template <class C>
void normBackwardShort(const NormRows<C>& rows, const NormRowsGradients<C>& out) {
  const hn::ScalableTag<C> d;
  using V = RowVector<C>;
  const int64_t dim = rows.dim, lanes = static_cast<int64_t>(hn::Lanes(d));
  const V one = hn::Set(d, C(1)), n = hn::Set(d, static_cast<C>(dim)), eps = hn::Set(d, rows.eps);
  withAffine(rows, [&](auto affine) HWY_ATTR {
    for (int64_t first = 0; first < rows.count; first += lanes) {
      const int64_t count = std::min(lanes, rows.count - first);
      const auto sums = sumShortRows<C, 5>(first, count, dim, [&](int64_t i, auto at, V* sum) HWY_ATTR {
        const V a = at.load(rows.x[i]), b = at.load(rows.tx[i]), g = at.load(out.g[i]), h = at.load(out.h[i]);
        const V scaled = affine.scale(at, h);
        sum[0] = hn::MulAdd(a, a, sum[0]);
        sum[1] = hn::MulAdd(a, b, sum[1]);
        sum[2] = hn::MulAdd(a, affine.pulled(at, g, h), sum[2]);
        sum[3] = hn::MulAdd(a, scaled, sum[3]);
        sum[4] = hn::MulAdd(b, scaled, sum[4]);
      });
      const V inverse = hn::Div(one, hn::Sqrt(hn::Add(hn::Div(sums.of[0], n), eps)));
      const V mean = hn::Div(hn::Mul(inverse, sums.of[1]), n), inH = hn::Div(hn::Mul(inverse, sums.of[3]), n);
      const PerRow<C> r(inverse), c(mean), unitG(hn::Div(hn::Mul(inverse, sums.of[2]), n)), unitH(inH);
      const PerRow<C> rr(hn::Mul(inverse, inverse));
      const PerRow<C> along(hn::NegMulAdd(hn::Mul(hn::Set(d, C(3)), inH), mean, hn::Div(sums.of[4], n)));
      // Place by place, so that the sums over rows stay in registers.
      forVectors<C>(dim, [&](auto at) HWY_ATTR {
        V gain = hn::Zero(d), tgain = hn::Zero(d), shift = hn::Zero(d), tshift = hn::Zero(d);
        for (int64_t i = 0; i < count; ++i) {
          const int64_t row = first + i;
          const V unit = hn::Mul(at.load(rows.x[row]), r(i)), b = at.load(rows.tx[row]);
          const V g = at.load(out.g[row]), h = at.load(out.h[row]), scaled = affine.scale(at, h);
          if (out.gx[0]) {
            const V direct = hn::NegMulAdd(unit, unitG(i), affine.pulled(at, g, h));
            const V second = hn::MulAdd(unit, along(i), hn::MulAdd(c(i), scaled, hn::Mul(unitH(i), b)));
            at.store(hn::NegMulAdd(rr(i), second, hn::Mul(r(i), direct)), out.gx[row]);
          }
          if (out.gtx[0]) at.store(hn::Mul(r(i), hn::NegMulAdd(unit, unitH(i), scaled)), out.gtx[row]);
          const V tunit = hn::Mul(r(i), hn::NegMulAdd(unit, c(i), b));
          gain = hn::MulAdd(g, unit, hn::MulAdd(h, tunit, gain));
          tgain = hn::MulAdd(h, unit, tgain);
          shift = hn::Add(shift, g);
          tshift = hn::Add(tshift, h);
        }
        const auto join = [&](V sum, C* to) HWY_ATTR {
          if (to) at.store(hn::Add(sum, at.load(to)), to);
        };
        join(gain, out.gainSum);
        join(tgain, out.tgainSum);
        join(shift, out.shiftSum);
        join(tshift, out.tshiftSum);
      });
    }
  });
}

template <class C>
void normForward(const NormRows<C>& rows, const RowsOut<C>& y, const RowsOut<C>& ty) {
  if (normRowsTogether(rows.dim) > 1) return normForwardShort(rows, y, ty);
  normForwardLong(rows, y[0], ty[0]);
}

template <class C>
void normBackward(const NormRows<C>& rows, const NormRowsGradients<C>& out) {
  if (normRowsTogether(rows.dim) > 1) return normBackwardShort(rows, out);
  normBackwardLong(rows, out);
}

void CenterF(int64_t dim, const float* x, float* out) { center(dim, x, out); }
void CenterD(int64_t dim, const double* x, double* out) { center(dim, x, out); }
void NormForwardF(const NormRows<float>& rows, const RowsOut<float>& y, const RowsOut<float>& ty) {
  normForward(rows, y, ty);
}
void NormForwardD(const NormRows<double>& rows, const RowsOut<double>& y, const RowsOut<double>& ty) {
  normForward(rows, y, ty);
}
void NormBackwardF(const NormRows<float>& rows, const NormRowsGradients<float>& out) { normBackward(rows, out); }
void NormBackwardD(const NormRows<double>& rows, const NormRowsGradients<double>& out) { normBackward(rows, out); }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(CenterF);
HWY_EXPORT(CenterD);
HWY_EXPORT(NormForwardF);
HWY_EXPORT(NormForwardD);
HWY_EXPORT(NormBackwardF);
HWY_EXPORT(NormBackwardD);

void centerRow(int64_t dim, const float* x, float* out) { HWY_DYNAMIC_DISPATCH(CenterF)(dim, x, out); }
void centerRow(int64_t dim, const double* x, double* out) { HWY_DYNAMIC_DISPATCH(CenterD)(dim, x, out); }
void normForwardRows(const NormRows<float>& rows, const RowsOut<float>& y, const RowsOut<float>& ty) {
  HWY_DYNAMIC_DISPATCH(NormForwardF)(rows, y, ty);
}
void normForwardRows(const NormRows<double>& rows, const RowsOut<double>& y, const RowsOut<double>& ty) {
  HWY_DYNAMIC_DISPATCH(NormForwardD)(rows, y, ty);
}
void normBackwardRows(const NormRows<float>& rows, const NormRowsGradients<float>& out) {
  HWY_DYNAMIC_DISPATCH(NormBackwardF)(rows, out);
}
void normBackwardRows(const NormRows<double>& rows, const NormRowsGradients<double>& out) {
  HWY_DYNAMIC_DISPATCH(NormBackwardD)(rows, out);
}

}  // namespace flowmap::cpu
#endif
