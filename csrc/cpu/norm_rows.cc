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

// What the sums over a row come to: of one row in all lanes, or of as many rows as there are lanes.
template <class C>
struct RowFactors {
  using V = RowVector<C>;
  V r, c;                 // (mean x² + eps)^-½, mean(x̂ tx)
  V unitG, unitH, along;  // of the backward pass alone
  V rr;

  // Sums of x², x tx.
  static HWY_INLINE RowFactors ofForward(const NormRows<C>& rows, V squares, V products) {
    const hn::ScalableTag<C> d;
    const V n = hn::Set(d, static_cast<C>(rows.dim)), eps = hn::Set(d, rows.eps);
    RowFactors f;
    f.r = hn::Div(hn::Set(d, C(1)), hn::Sqrt(hn::Add(hn::Div(squares, n), eps)));
    f.c = hn::Div(hn::Mul(f.r, products), n);
    return f;
  }
  // Of what addBackward adds up.
  static HWY_INLINE RowFactors ofBackward(const NormRows<C>& rows, const V* sums) {
    const hn::ScalableTag<C> d;
    const V n = hn::Set(d, static_cast<C>(rows.dim));
    RowFactors f = ofForward(rows, sums[0], sums[1]);
    f.unitG = hn::Div(hn::Mul(f.r, sums[2]), n);
    f.unitH = hn::Div(hn::Mul(f.r, sums[3]), n);
    f.along = hn::NegMulAdd(hn::Mul(hn::Set(d, C(3)), f.unitH), f.c, hn::Div(sums[4], n));
    f.rr = hn::Mul(f.r, f.r);
    return f;
  }
};

template <class C>
HWY_INLINE void addSquares(auto at, const C* x, RowVector<C>* sums) {
  const RowVector<C> a = at.load(x);
  sums[0] = hn::MulAdd(a, a, sums[0]);
}

template <class C>
HWY_INLINE void addForward(auto at, const C* x, const C* tx, RowVector<C>* sums) {
  const RowVector<C> a = at.load(x);
  sums[0] = hn::MulAdd(a, a, sums[0]);
  sums[1] = hn::MulAdd(a, at.load(tx), sums[1]);
}

template <class C>
HWY_INLINE void storeForward(auto affine, auto at, RowVector<C> r, RowVector<C> c, const C* x, const C* tx, C* y,
                             C* ty) {
  const RowVector<C> unit = hn::Mul(at.load(x), r);
  const RowVector<C> tunit = hn::Mul(r, hn::NegMulAdd(unit, c, at.load(tx)));
  at.store(affine.tangent(at, unit, tunit), ty);
  at.store(affine.value(at, unit), y);
}

// A row's operands of the backward pass, at one place.
template <class C>
struct BackwardPlace {
  using V = RowVector<C>;
  V x, tx, g, h, scaled, pulled;
  HWY_INLINE BackwardPlace(auto affine, auto at, const C* xs, const C* txs, const C* gs, const C* hs)
      : x(at.load(xs)), tx(at.load(txs)), g(at.load(gs)), h(at.load(hs)) {
    scaled = affine.scale(at, h);
    pulled = affine.pulled(at, g, h);
  }
  HWY_INLINE void addTo(V* sums) const {
    sums[0] = hn::MulAdd(x, x, sums[0]);
    sums[1] = hn::MulAdd(x, tx, sums[1]);
    sums[2] = hn::MulAdd(x, pulled, sums[2]);
    sums[3] = hn::MulAdd(x, scaled, sums[3]);
    sums[4] = hn::MulAdd(tx, scaled, sums[4]);
  }
  HWY_INLINE V unit(const RowFactors<C>& f) const { return hn::Mul(x, f.r); }
  HWY_INLINE V gx(const RowFactors<C>& f) const {
    const V direct = hn::NegMulAdd(unit(f), f.unitG, pulled);
    const V second = hn::MulAdd(unit(f), f.along, hn::MulAdd(f.c, scaled, hn::Mul(f.unitH, tx)));
    return hn::NegMulAdd(f.rr, second, hn::Mul(f.r, direct));
  }
  HWY_INLINE V gtx(const RowFactors<C>& f) const { return hn::Mul(f.r, hn::NegMulAdd(unit(f), f.unitH, scaled)); }
  // Sums so far, and what this row adds to the gradients of the gain and of its tangent.
  HWY_INLINE V gain(const RowFactors<C>& f, V sum) const {
    const V tunit = hn::Mul(f.r, hn::NegMulAdd(unit(f), f.c, tx));
    return hn::MulAdd(g, unit(f), hn::MulAdd(h, tunit, sum));
  }
  HWY_INLINE V tgain(const RowFactors<C>& f, V sum) const { return hn::MulAdd(h, unit(f), sum); }
};

template <class C>
void normForwardLong(const NormRows<C>& row, C* y, C* ty) {
  const hn::ScalableTag<C> d;
  using V = RowVector<C>;
  const int64_t dim = row.dim;
  const C *x = row.x[0], *tx = row.tx[0];
  withAffine(row, [=, &row](auto affine) HWY_ATTR {
    if (!ty) {
      const auto [squares] = sumVectors<C, 1>(dim, [=](auto at, V* sums) HWY_ATTR { addSquares(at, x, sums); });
      const V r = RowFactors<C>::ofForward(row, hn::Set(d, squares), hn::Zero(d)).r;
      const Ahead<1> ahead(row);
      forVectors<C>(dim, [&](auto at) HWY_ATTR {
        ahead.fetch(at.at);
        at.store(affine.value(at, hn::Mul(at.load(x), r)), y);
      });
      return;
    }
    const auto [squares, products] =
        sumVectors<C, 2>(dim, [=](auto at, V* sums) HWY_ATTR { addForward(at, x, tx, sums); });
    const auto f = RowFactors<C>::ofForward(row, hn::Set(d, squares), hn::Set(d, products));
    const V r = f.r, c = f.c;
    const Ahead<2> ahead(row);
    forVectors<C>(dim, [&](auto at) HWY_ATTR {
      ahead.fetch(at.at);
      storeForward(affine, at, r, c, x, tx, y, ty);
    });
  });
}

template <class C>
void normBackwardLong(const NormRows<C>& row, const NormRowsGradients<C>& out) {
  const hn::ScalableTag<C> d;
  using V = RowVector<C>;
  const int64_t dim = row.dim;
  const C *x = row.x[0], *tx = row.tx[0], *g = out.g[0], *h = out.h[0];
  C *const gx = out.gx[0], *const gtx = out.gtx[0], *const gainSum = out.gainSum, *const tgainSum = out.tgainSum;
  const Ahead<4> ahead(row);
  withAffine(row, [=, &row](auto affine) HWY_ATTR {
    const auto sums =
        sumVectors<C, 5>(dim, [=](auto at, V* to) HWY_ATTR { BackwardPlace<C>(affine, at, x, tx, g, h).addTo(to); });
    V all[5];
    for (size_t i = 0; i < sums.size(); ++i) all[i] = hn::Set(d, sums[i]);
    const RowFactors<C> f = RowFactors<C>::ofBackward(row, all);
    forVectors<C>(dim, [&](auto at) HWY_ATTR {
      ahead.fetch(at.at);
      const BackwardPlace<C> place(affine, at, x, tx, g, h);
      if (gx) at.store(place.gx(f), gx);
      if (gtx) at.store(place.gtx(f), gtx);
      if (gainSum) at.store(place.gain(f, at.load(gainSum)), gainSum);
      if (tgainSum) at.store(place.tgain(f, at.load(tgainSum)), tgainSum);
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
  using V = RowVector<C>;
  const hn::ScalableTag<C> d;
  const int64_t dim = rows.dim, lanes = static_cast<int64_t>(hn::Lanes(d));
  withAffine(rows, [&](auto affine) HWY_ATTR {
    for (int64_t first = 0; first < rows.count; first += lanes) {
      const int64_t count = std::min(lanes, rows.count - first);
      if (!ty[0]) {
        const auto sums = sumShortRows<C, 1>(
            first, count, dim, [&](int64_t i, auto at, V* sum) HWY_ATTR { addSquares(at, rows.x[i], sum); });
        const PerRow<C> r(RowFactors<C>::ofForward(rows, sums.of[0], hn::Zero(d)).r);
        for (int64_t i = 0; i < count; ++i) {
          const C* x = rows.x[first + i];
          C* to = y[first + i];
          forVectors<C>(dim, [&](auto at) HWY_ATTR { at.store(affine.value(at, hn::Mul(at.load(x), r(i))), to); });
        }
        continue;
      }
      const auto sums = sumShortRows<C, 2>(
          first, count, dim, [&](int64_t i, auto at, V* sum) HWY_ATTR { addForward(at, rows.x[i], rows.tx[i], sum); });
      const auto f = RowFactors<C>::ofForward(rows, sums.of[0], sums.of[1]);
      const PerRow<C> r(f.r), c(f.c);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t row = first + i;
        forVectors<C>(dim, [&](auto at) HWY_ATTR {
          storeForward(affine, at, r(i), c(i), rows.x[row], rows.tx[row], y[row], ty[row]);
        });
      }
    }
  });
}

template <class C>
void normBackwardShort(const NormRows<C>& rows, const NormRowsGradients<C>& out) {
  using V = RowVector<C>;
  const hn::ScalableTag<C> d;
  const int64_t dim = rows.dim, lanes = static_cast<int64_t>(hn::Lanes(d));
  withAffine(rows, [&](auto affine) HWY_ATTR {
    const auto placeOf = [&](int64_t row, auto at) HWY_ATTR {
      return BackwardPlace<C>(affine, at, rows.x[row], rows.tx[row], out.g[row], out.h[row]);
    };
    for (int64_t first = 0; first < rows.count; first += lanes) {
      const int64_t count = std::min(lanes, rows.count - first);
      const auto sums = sumShortRows<C, 5>(first, count, dim,
                                           [&](int64_t i, auto at, V* sum) HWY_ATTR { placeOf(i, at).addTo(sum); });
      const auto f = RowFactors<C>::ofBackward(rows, sums.of);
      const PerRow<C> r(f.r), c(f.c), unitG(f.unitG), unitH(f.unitH), along(f.along), rr(f.rr);
      // Place by place, so that the sums over rows stay in registers.
      forVectors<C>(dim, [&](auto at) HWY_ATTR {
        V gain = hn::Zero(d), tgain = hn::Zero(d), shift = hn::Zero(d), tshift = hn::Zero(d);
        for (int64_t i = 0; i < count; ++i) {
          const BackwardPlace<C> place = placeOf(first + i, at);
          const RowFactors<C> of{r(i), c(i), unitG(i), unitH(i), along(i), rr(i)};
          if (out.gx[0]) at.store(place.gx(of), out.gx[first + i]);
          if (out.gtx[0]) at.store(place.gtx(of), out.gtx[first + i]);
          gain = place.gain(of, gain);
          tgain = place.tgain(of, tgain);
          shift = hn::Add(shift, place.g);
          tshift = hn::Add(tshift, place.h);
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
