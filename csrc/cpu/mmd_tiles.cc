// Compiled once per SIMD level. Pairs are taken in tiles of particles held in registers, so that a row is loaded once
// for several pairs.
#include "cpu/mmd_tiles.h"

#include <hwy/cache_control.h>

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
template <class C>
using Tag = hn::ScalableTag<C>;
template <class C>
using Vector = hn::Vec<Tag<C>>;

// Sixteen registers hold 4 × 2 accumulators beside their operands, thirty-two 4 × 4.
constexpr bool kManyRegisters = HWY_MAX_BYTES == 64;
constexpr int kRows = 4;
constexpr int kColumns = kManyRegisters ? 4 : 2;
constexpr int kTangentRows = kManyRegisters ? 4 : 2;
constexpr int kTangentColumns = 2;
constexpr int kPackRows = 8;
constexpr int kSweepRows = kManyRegisters ? 8 : 4;

template <class C>
HWY_INLINE int64_t lanesOf() {
  return static_cast<int64_t>(hn::Lanes(Tag<C>()));
}

// Calls body with a count of 1 … kMost as a constant.
template <int kMost, class Body>
HWY_INLINE void withCount(int64_t count, Body body) {
  if constexpr (kMost > 1) {
    if (count < kMost) return withCount<kMost - 1>(count, body);
  }
  body(std::integral_constant<int, kMost>{});
}

// The rows are read side by side: the processor then sees each as one long stream, whatever the slices.
template <int R, class S, class C>
void packRows(int64_t particles, int64_t n, const S* const* rows, C* packed) {
  const Tag<C> d;
  constexpr int64_t kChunk = kMmdChunk<C>;
  const S* x[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) x[r] = rows[r];
  int64_t at = 0;
  for (; at + kChunk <= n; at += kChunk, packed += particles * kChunk) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      for (int64_t v = 0; v < kChunk; v += lanesOf<C>()) {
        C* to = packed + r * kChunk + v;
        if constexpr (std::is_same_v<S, C>)
          hn::Store(hn::LoadU(d, x[r] + at + v), d, to);
        else
          hn::Store(hn::PromoteTo(d, hn::LoadU(hn::Rebind<S, Tag<C>>(), x[r] + at + v)), d, to);
      }
    }
  }
  if (at == n) return;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    for (int64_t v = 0; v < kChunk; ++v) packed[r * kChunk + v] = at + v < n ? static_cast<C>(x[r][at + v]) : C(0);
  }
}

template <class S, class C>
void pack(int64_t particles, int64_t n, const S* const* rows, C* packed) {
  for (int64_t i = 0; i < particles; i += kPackRows) {
    withCount<kPackRows>(std::min<int64_t>(kPackRows, particles - i), [&](auto count) {
      packRows<decltype(count)::value>(particles, n, rows + i, packed + i * kMmdChunk<C>);
    });
  }
}

HWY_INLINE void addTo(double* lanes, V64 v) {
  const D64 d;
  hn::Store(hn::Add(hn::Load(d, lanes), v), d, lanes);
}

HWY_INLINE void addTo(double* lanes, hn::Vec<Tag<float>> v) {
  const D64 d;
#if HWY_TARGET == HWY_SCALAR
  addTo(lanes, hn::PromoteTo(d, v));
#else
  const hn::Half<Tag<float>> half;
  addTo(lanes, hn::PromoteTo(d, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v))));
#endif
}

// The rows a tile fetches.
struct Ahead {
  int64_t begin, end;
};

// Pairs of particles i … i + R with j … j + K, or among i … i + R where kDiagonal.
template <int R, int K, bool kDiagonal, bool kTangent, class C>
void tile(const MmdSlice<C>& s, Ahead ahead, int64_t i, int64_t j) {
  const Tag<C> d;
  using V = Vector<C>;
  constexpr int64_t kChunk = kMmdChunk<C>;
  V sums[R][K], tangentSums[kTangent ? R : 1][kTangent ? K : 1];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      sums[r][k] = hn::Zero(d);
      if constexpr (kTangent) tangentSums[r][k] = hn::Zero(d);
    }
  }
  const int64_t stride = s.particles * kChunk;
  const C *a = s.points + i * kChunk, *b = s.points + j * kChunk;
  const C *ta = kTangent ? s.tangents + i * kChunk : nullptr, *tb = kTangent ? s.tangents + j * kChunk : nullptr;
  for (int64_t chunk = 0; chunk < s.chunks; ++chunk) {
    for (int64_t row = ahead.begin; row < ahead.end; ++row) hwy::Prefetch(s.ahead[row] + chunk * s.aheadBytes);
    for (int64_t v = 0; v < kChunk; v += lanesOf<C>()) {
      V p[R], q[K], tp[R], tq[K];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        p[r] = hn::Load(d, a + r * kChunk + v);
        if constexpr (kTangent) tp[r] = hn::Load(d, ta + r * kChunk + v);
      }
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        q[k] = kDiagonal ? p[k] : hn::Load(d, b + k * kChunk + v);
        if constexpr (kTangent) tq[k] = kDiagonal ? tp[k] : hn::Load(d, tb + k * kChunk + v);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
        for (int k = kDiagonal ? r + 1 : 0; k < K; ++k) {
          const V difference = hn::Sub(p[r], q[k]);
          sums[r][k] = hn::MulAdd(difference, difference, sums[r][k]);
          if constexpr (kTangent) tangentSums[r][k] = hn::MulAdd(difference, hn::Sub(tp[r], tq[k]), tangentSums[r][k]);
        }
      }
    }
    a += stride, b += stride;
    if constexpr (kTangent) ta += stride, tb += stride;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    // Neighbouring columns are neighbouring pairs.
    const int64_t first = mmdPair(i + r, j, s.particles) * kMmdLanes;
#pragma GCC unroll 8
    for (int k = kDiagonal ? r + 1 : 0; k < K; ++k) {
      addTo(s.lanes + first + k * kMmdLanes, sums[r][k]);
      if constexpr (kTangent) addTo(s.tangentLanes + first + k * kMmdLanes, tangentSums[r][k]);
    }
  }
}

template <int kR, int kK, bool kTangent, class C>
void tiles(const MmdSlice<C>& s) {
  // Fetching ahead is spread evenly over the tiles.
  int64_t count = 0;
  for (int64_t i = 0; i < s.particles; i += kR) count += 1 + (std::max<int64_t>(0, s.particles - i - kR) + kK - 1) / kK;
  const int64_t each = s.ahead ? (s.particles + count - 1) / count : 0;
  int64_t fetched = 0;
  const auto next = [&] {
    const Ahead ahead{fetched, std::min(s.particles, fetched + each)};
    fetched = ahead.end;
    return ahead;
  };
  for (int64_t i = 0; i < s.particles; i += kR) {
    withCount<kR>(std::min<int64_t>(kR, s.particles - i), [&](auto rows) {
      constexpr int kRowsHere = decltype(rows)::value;
      if constexpr (kRowsHere > 1) tile<kRowsHere, kRowsHere, true, kTangent>(s, next(), i, i);
      for (int64_t j = i + kRowsHere; j < s.particles; j += kK) {
        withCount<kK>(std::min<int64_t>(kK, s.particles - j), [&](auto columns) {
          tile<kRowsHere, decltype(columns)::value, false, kTangent>(s, next(), i, j);
        });
      }
    });
  }
}

template <class C>
void distances(const MmdSlice<C>& s) {
  if (s.tangents)
    tiles<kTangentRows, kTangentColumns, true>(s);
  else
    tiles<kRows, kColumns, false>(s);
}

// What has few lanes adds up more in each: the slice is then cut so that sums of float stay as short as elsewhere.
void distancesInFloat(const MmdSlice<float>& s) {
  const int64_t lanes = lanesOf<float>();
  if (lanes >= 8) return distances(s);
  for (int64_t at = 0; at < s.chunks; at += lanes) {
    MmdSlice<float> part = s;
    part.chunks = std::min(lanes, s.chunks - at);
    part.points += at * s.particles * kMmdChunk<float>;
    if (s.tangents) part.tangents += at * s.particles * kMmdChunk<float>;
    part.ahead = nullptr;
    distances(part);
  }
}

void PackF(int64_t particles, int64_t n, const float* const* rows, float* packed) { pack(particles, n, rows, packed); }
void PackFD(int64_t particles, int64_t n, const float* const* rows, double* packed) {
  pack(particles, n, rows, packed);
}
void PackD(int64_t particles, int64_t n, const double* const* rows, double* packed) {
  pack(particles, n, rows, packed);
}
void DistancesF(const MmdSlice<float>& slice) { distancesInFloat(slice); }
void DistancesD(const MmdSlice<double>& slice) { distances(slice); }

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

template <int R, bool kPaired, class C>
void sweepRows(const MmdSweep<C>& s, int64_t row) {
  const Tag<C> d;
  using V = Vector<C>;
  constexpr int64_t kChunk = kMmdChunk<C>;
  const int64_t stride = s.particles * kChunk, sources = kPaired ? s.count : s.particles;
  // Sources begin at x, or at the rows' own set; y_j − x_j lies this far from the first.
  const C *points = s.points + (s.first + row) * kChunk, *from = s.points + (kPaired ? s.first : 0) * kChunk;
  const C *x = s.points, *y = s.points + s.particles / 2 * kChunk;
  C* out[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) out[r] = s.out[row + r];
  for (int64_t chunk = 0; chunk < s.chunks; ++chunk) {
    for (int64_t v = 0; v < kChunk; v += lanesOf<C>()) {
      V p[R], sums[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        p[r] = hn::Load(d, points + r * kChunk + v);
        sums[r] = hn::Zero(d);
      }
      const C *direct = s.direct + row, *pairs = s.pairs + row;
      for (int64_t j = 0; j < sources; ++j) {
        const V q = hn::Load(d, from + j * kChunk + v);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) sums[r] = hn::MulAdd(hn::Set(d, direct[r]), hn::Sub(p[r], q), sums[r]);
        if constexpr (kPaired) {
          const V apart = hn::Sub(hn::Load(d, y + j * kChunk + v), hn::Load(d, x + j * kChunk + v));
#pragma GCC unroll 8
          for (int r = 0; r < R; ++r) sums[r] = hn::MulAdd(hn::Set(d, pairs[r]), apart, sums[r]);
          pairs += s.count;
        }
        direct += s.count;
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        if (s.streamed)
          hn::Stream(sums[r], d, out[r] + chunk * kChunk + v);
        else
          hn::StoreU(sums[r], d, out[r] + chunk * kChunk + v);
      }
    }
    points += stride, from += stride, x += stride, y += stride;
  }
}

template <class C>
void sweep(const MmdSweep<C>& s) {
  for (int64_t row = 0; row < s.count; row += kSweepRows) {
    withCount<kSweepRows>(std::min<int64_t>(kSweepRows, s.count - row), [&](auto rows) {
      if (s.pairs)
        sweepRows<decltype(rows)::value, true>(s, row);
      else
        sweepRows<decltype(rows)::value, false>(s, row);
    });
  }
  if (s.streamed) hwy::FlushStream();
}

void SweepF(const MmdSweep<float>& s) { sweep(s); }
void SweepD(const MmdSweep<double>& s) { sweep(s); }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(PackF);
HWY_EXPORT(PackFD);
HWY_EXPORT(PackD);
HWY_EXPORT(DistancesF);
HWY_EXPORT(DistancesD);
HWY_EXPORT(SumLanes);
HWY_EXPORT(KernelValues);
HWY_EXPORT(SweepF);
HWY_EXPORT(SweepD);

void mmdPack(int64_t particles, int64_t n, const float* const* rows, float* packed) {
  HWY_DYNAMIC_DISPATCH(PackF)(particles, n, rows, packed);
}
void mmdPack(int64_t particles, int64_t n, const float* const* rows, double* packed) {
  HWY_DYNAMIC_DISPATCH(PackFD)(particles, n, rows, packed);
}
void mmdPack(int64_t particles, int64_t n, const double* const* rows, double* packed) {
  HWY_DYNAMIC_DISPATCH(PackD)(particles, n, rows, packed);
}
void mmdDistances(const MmdSlice<float>& slice) { HWY_DYNAMIC_DISPATCH(DistancesF)(slice); }
void mmdDistances(const MmdSlice<double>& slice) { HWY_DYNAMIC_DISPATCH(DistancesD)(slice); }
void mmdSumLanes(int64_t pairs, const double* lanes, double* sums) {
  HWY_DYNAMIC_DISPATCH(SumLanes)(pairs, lanes, sums);
}
void mmdKernelValues(const MmdOptions& options, double weight, int64_t dim, int64_t pairs, const double* squares,
                     double* values, double* slopes) {
  HWY_DYNAMIC_DISPATCH(KernelValues)(options, weight, dim, pairs, squares, values, slopes);
}
void mmdSweep(const MmdSweep<float>& sweep) { HWY_DYNAMIC_DISPATCH(SweepF)(sweep); }
void mmdSweep(const MmdSweep<double>& sweep) { HWY_DYNAMIC_DISPATCH(SweepD)(sweep); }

}  // namespace flowmap::cpu
#endif
