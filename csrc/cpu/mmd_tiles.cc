// Compiled once per SIMD level. Pairs are taken in tiles of particles held in registers, so that a row is loaded once
// for several pairs.
#include "cpu/mmd_tiles.h"

#include <algorithm>
#include <limits>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/mmd_tiles.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/vector_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

using D64 = hn::ScalableTag<double>;
using V64 = hn::Vec<D64>;

// Sixteen registers hold 4 × 2 accumulators beside their operands, thirty-two 4 × 4.
constexpr int kRows = 4;
constexpr int kColumns = HWY_MAX_BYTES == 64 ? 4 : 2;
constexpr int kTangentRows = HWY_MAX_BYTES == 64 ? 4 : 2;
constexpr int kTangentColumns = 2;

template <class S>
HWY_INLINE V64 load(D64 d, const S* x) {
  if constexpr (std::is_same_v<S, double>)
    return hn::LoadU(d, x);
  else
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, D64>(), x));
}

template <class S>
HWY_INLINE void store(D64 d, V64 v, S* y) {
  if constexpr (std::is_same_v<S, double>)
    hn::StoreU(v, d, y);
  else {
    const hn::Rebind<float, D64> df;
    hn::StoreU(hn::DemoteTo(df, v), df, y);
  }
}

HWY_INLINE void addTo(D64 d, double* lanes, V64 v) { hn::Store(hn::Add(hn::Load(d, lanes), v), d, lanes); }

template <class S>
struct Slice {
  int64_t particles, n;
  const S* const* rows;
  const S* const* tangents;
  double *lanes, *tangentLanes;
  double* at(double* base, int64_t i, int64_t j) const { return base + mmdPair(i, j, particles) * kMmdLanes; }
};

// Pairs of particles i … i + R with j … j + K, or among i … i + R where kDiagonal.
template <int R, int K, bool kDiagonal, bool kTangent, class S>
void tile(const Slice<S>& s, int64_t i, int64_t j) {
  const D64 d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V64 sums[R][K], tangentSums[R][K];
  for (int r = 0; r < R; ++r) {
    for (int k = 0; k < K; ++k) sums[r][k] = tangentSums[r][k] = hn::Zero(d);
  }
  const S *a[R], *b[K], *ta[R], *tb[K];
  for (int r = 0; r < R; ++r) a[r] = s.rows[i + r], ta[r] = kTangent ? s.tangents[i + r] : nullptr;
  for (int k = 0; k < K; ++k) b[k] = s.rows[j + k], tb[k] = kTangent ? s.tangents[j + k] : nullptr;
  for (int64_t v = 0; v < s.n; v += lanes) {
    V64 p[R], q[K], tp[R], tq[K];
    for (int r = 0; r < R; ++r) {
      p[r] = load(d, a[r] + v);
      if constexpr (kTangent) tp[r] = load(d, ta[r] + v);
    }
    for (int k = 0; k < K; ++k) {
      q[k] = kDiagonal ? p[k] : load(d, b[k] + v);
      if constexpr (kTangent) tq[k] = kDiagonal ? tp[k] : load(d, tb[k] + v);
    }
    for (int r = 0; r < R; ++r) {
      for (int k = kDiagonal ? r + 1 : 0; k < K; ++k) {
        const V64 difference = hn::Sub(p[r], q[k]);
        sums[r][k] = hn::MulAdd(difference, difference, sums[r][k]);
        if constexpr (kTangent) tangentSums[r][k] = hn::MulAdd(difference, hn::Sub(tp[r], tq[k]), tangentSums[r][k]);
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int k = kDiagonal ? r + 1 : 0; k < K; ++k) {
      addTo(d, s.at(s.lanes, i + r, j + k), sums[r][k]);
      if constexpr (kTangent) addTo(d, s.at(s.tangentLanes, i + r, j + k), tangentSums[r][k]);
    }
  }
}

// Calls body with a count of 1 … 4 as a constant.
template <int kMost, class Body>
HWY_INLINE void withCount(int64_t count, Body body) {
  if constexpr (kMost > 1) {
    if (count < kMost) return withCount<kMost - 1>(count, body);
  }
  body(std::integral_constant<int, kMost>{});
}

template <int kR, int kK, bool kTangent, class S>
void tiles(const Slice<S>& s) {
  for (int64_t i = 0; i < s.particles; i += kR) {
    withCount<kR>(std::min<int64_t>(kR, s.particles - i), [&](auto rows) {
      constexpr int kRowsHere = decltype(rows)::value;
      if constexpr (kRowsHere > 1) tile<kRowsHere, kRowsHere, true, kTangent>(s, i, i);
      for (int64_t j = i + kRowsHere; j < s.particles; j += kK) {
        withCount<kK>(std::min<int64_t>(kK, s.particles - j),
                      [&](auto columns) { tile<kRowsHere, decltype(columns)::value, false, kTangent>(s, i, j); });
      }
    });
  }
}

template <class S>
void distances(const Slice<S>& s) {
  if (s.tangents)
    tiles<kTangentRows, kTangentColumns, true>(s);
  else
    tiles<kRows, kColumns, false>(s);
}

void DistancesF(int64_t particles, int64_t n, const float* const* rows, const float* const* tangents, double* lanes,
                double* tangentLanes) {
  distances(Slice<float>{particles, n, rows, tangents, lanes, tangentLanes});
}
void DistancesD(int64_t particles, int64_t n, const double* const* rows, const double* const* tangents, double* lanes,
                double* tangentLanes) {
  distances(Slice<double>{particles, n, rows, tangents, lanes, tangentLanes});
}

void SumLanes(int64_t pairs, const double* lanes, double* sums) {
  const D64 d;
  for (int64_t pair = 0; pair < pairs; ++pair) {
    sums[pair] = hn::GetLane(hn::SumOfLanes(d, hn::Load(d, lanes + pair * kMmdLanes)));
  }
}

// The kernel less one at distance `root` (its square beside it), and its derivative by the distance over the distance.
struct ValueSlope {
  V64 value, slope;
};

template <MmdKernel kKernel>
HWY_INLINE ValueSlope kernelAt(D64 d, V64 root, V64 square, double weight, double dim, double bandwidth) {
  const V64 one = constant(d, 1);
  if constexpr (kKernel == MmdKernel::Laplace) {
    const V64 rate = constant(d, -weight / (bandwidth * dim));
    const V64 value = expm1(d, hn::Mul(rate, root));
    return {value, hn::Div(hn::Mul(rate, hn::Add(value, one)), root)};
  } else if constexpr (kKernel == MmdKernel::Rbf) {
    const double rate = -weight / (bandwidth * bandwidth * dim);
    const V64 value = expm1(d, hn::Mul(constant(d, 0.5 * rate), square));
    return {value, hn::Mul(constant(d, rate), hn::Add(value, one))};
  } else if constexpr (kKernel == MmdKernel::Imq) {
    const double rate = weight / (bandwidth * bandwidth * dim);
    const V64 s = hn::Mul(constant(d, rate), square), q = hn::Add(one, s), r = hn::Sqrt(q);
    // (1 + s)^-½ − 1 without the difference
    return {hn::Neg(hn::Div(s, hn::Mul(r, hn::Add(one, r)))), hn::Div(constant(d, -rate), hn::Mul(q, r))};
  } else {
    const V64 rate = constant(d, -weight / dim);
    return {hn::Mul(rate, root), hn::Div(rate, root)};
  }
}

template <MmdKernel kKernel>
void kernelValues(const MmdOptions& options, double weight, int64_t dim, int64_t pairs, const double* squares,
                  double* values, double* slopes) {
  const D64 d;
  const V64 eps = constant(d, options.eps), share = constant(d, 1.0 / static_cast<double>(options.bandwidths.size()));
  const V64 nan = constant(d, std::numeric_limits<double>::quiet_NaN());
  for (int64_t i = 0; i < pairs; i += static_cast<int64_t>(hn::Lanes(d))) {
    const V64 given = hn::LoadU(d, squares + i);
    const V64 square0 = hn::IfThenElse(hn::IsFinite(given), given, nan);
    const V64 root0 = hn::Sqrt(square0);
    const auto near = hn::Le(root0, eps);  // false for NaN
    const V64 root = hn::IfThenElse(near, eps, root0), square = hn::IfThenElse(near, hn::Mul(eps, eps), square0);
    V64 value = hn::Zero(d), slope = hn::Zero(d);
    for (double bandwidth : options.bandwidths) {
      const ValueSlope at = kernelAt<kKernel>(d, root, square, weight, static_cast<double>(dim), bandwidth);
      value = hn::Add(value, at.value);
      slope = hn::Add(slope, at.slope);
    }
    hn::StoreU(hn::Mul(value, share), d, values + i);
    hn::StoreU(hn::IfThenElse(near, hn::Zero(d), hn::Mul(slope, share)), d, slopes + i);
  }
}

void KernelValues(const MmdOptions& options, double weight, int64_t dim, int64_t pairs, const double* squares,
                  double* values, double* slopes) {
  switch (options.kernel) {
    case MmdKernel::Laplace:
      return kernelValues<MmdKernel::Laplace>(options, weight, dim, pairs, squares, values, slopes);
    case MmdKernel::Rbf:
      return kernelValues<MmdKernel::Rbf>(options, weight, dim, pairs, squares, values, slopes);
    case MmdKernel::Imq:
      return kernelValues<MmdKernel::Imq>(options, weight, dim, pairs, squares, values, slopes);
    case MmdKernel::Energy:
      return kernelValues<MmdKernel::Energy>(options, weight, dim, pairs, squares, values, slopes);
  }
}

template <int R, class S>
void sweepRows(int64_t particles, int64_t n, const S* const* rows, int64_t first, const double* coefficients,
               S* const* out) {
  const D64 d;
  for (int64_t v = 0; v < n; v += static_cast<int64_t>(hn::Lanes(d))) {
    V64 p[R], sums[R];
    for (int r = 0; r < R; ++r) {
      p[r] = load(d, rows[first + r] + v);
      sums[r] = hn::Zero(d);
    }
    const double* c = coefficients + first;
    for (int64_t j = 0; j < particles; ++j, c += particles) {
      const V64 q = load(d, rows[j] + v);
      for (int r = 0; r < R; ++r) sums[r] = hn::MulAdd(hn::Set(d, c[r]), hn::Sub(p[r], q), sums[r]);
    }
    for (int r = 0; r < R; ++r) store(d, sums[r], out[r] + v);
  }
}

template <class S>
void sweep(int64_t particles, int64_t n, const S* const* rows, int64_t first, int64_t count, const double* coefficients,
           S* const* out) {
  for (int64_t r = 0; r < count; r += kRows) {
    withCount<kRows>(std::min<int64_t>(kRows, count - r), [&](auto block) {
      sweepRows<decltype(block)::value>(particles, n, rows, first + r, coefficients, out + r);
    });
  }
}

void SweepF(int64_t particles, int64_t n, const float* const* rows, int64_t first, int64_t count,
            const double* coefficients, float* const* out) {
  sweep(particles, n, rows, first, count, coefficients, out);
}
void SweepD(int64_t particles, int64_t n, const double* const* rows, int64_t first, int64_t count,
            const double* coefficients, double* const* out) {
  sweep(particles, n, rows, first, count, coefficients, out);
}

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(DistancesF);
HWY_EXPORT(DistancesD);
HWY_EXPORT(SumLanes);
HWY_EXPORT(KernelValues);
HWY_EXPORT(SweepF);
HWY_EXPORT(SweepD);

void mmdDistances(int64_t particles, int64_t n, const float* const* rows, const float* const* tangents, double* lanes,
                  double* tangentLanes) {
  HWY_DYNAMIC_DISPATCH(DistancesF)(particles, n, rows, tangents, lanes, tangentLanes);
}
void mmdDistances(int64_t particles, int64_t n, const double* const* rows, const double* const* tangents, double* lanes,
                  double* tangentLanes) {
  HWY_DYNAMIC_DISPATCH(DistancesD)(particles, n, rows, tangents, lanes, tangentLanes);
}
void mmdSumLanes(int64_t pairs, const double* lanes, double* sums) {
  HWY_DYNAMIC_DISPATCH(SumLanes)(pairs, lanes, sums);
}
void mmdKernelValues(const MmdOptions& options, double weight, int64_t dim, int64_t pairs, const double* squares,
                     double* values, double* slopes) {
  HWY_DYNAMIC_DISPATCH(KernelValues)(options, weight, dim, pairs, squares, values, slopes);
}
void mmdSweep(int64_t particles, int64_t n, const float* const* rows, int64_t first, int64_t count,
              const double* coefficients, float* const* out) {
  HWY_DYNAMIC_DISPATCH(SweepF)(particles, n, rows, first, count, coefficients, out);
}
void mmdSweep(int64_t particles, int64_t n, const double* const* rows, int64_t first, int64_t count,
              const double* coefficients, double* const* out) {
  HWY_DYNAMIC_DISPATCH(SweepD)(particles, n, rows, first, count, coefficients, out);
}

}  // namespace flowmap::cpu
#endif
