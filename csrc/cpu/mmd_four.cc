// Compiled once per SIMD level; only the widest has the registers that this needs.
#include "cpu/mmd_four.h"

#include <hwy/cache_control.h>

#include <algorithm>

#include "core/error.h"
#include "cpu/mmd_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/mmd_four.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

bool TakesFours() { return HWY_MAX_BYTES == 64; }

#if HWY_MAX_BYTES == 64

using D = hn::FixedTag<float, kFourFeatures>;
using V = hn::Vec<D>;

// Features added up in float before they go to sums in double: as in larger groups.
constexpr int64_t kSlice = 8 * kFourFeatures;
// How far ahead rows are fetched, into the second-level cache.
constexpr int64_t kAhead = 8 * kSlice;

HWY_INLINE void fetch(const float* from) { __builtin_prefetch(from, 0, 2); }

HWY_INLINE void addTo(double* lanes, V v) {
  const hn::FixedTag<double, kMmdLanes> d;
  const hn::Half<D> half;
  const auto halves = hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v));
  hn::Store(hn::Add(hn::Load(d, lanes), hn::PromoteTo(d, halves)), d, lanes);
}

// Pairs of x's particles with y's.
HWY_INLINE void across(const MmdFour& s, int64_t from, int64_t to, int64_t ahead, double* lanes) {
  const D d;
  V sums[4][4];
#pragma GCC unroll 4
  for (auto& row : sums) {
#pragma GCC unroll 4
    for (V& sum : row) sum = hn::Zero(d);
  }
  for (int64_t at = from; at < to; at += kFourFeatures) {
    V q[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      q[j] = hn::LoadU(d, s.y + j * s.rowStride + at);
      fetch(s.x + j * s.rowStride + at + ahead);
      fetch(s.y + j * s.rowStride + at + ahead);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const V p = hn::LoadU(d, s.x + i * s.rowStride + at);
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const V difference = hn::Sub(p, q[j]);
        sums[i][j] = hn::MulAdd(difference, difference, sums[i][j]);
      }
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) addTo(lanes + mmdPair(i, 4 + j, 8) * kMmdLanes, sums[i][j]);
  }
}

// Pairs within x and within y.
HWY_INLINE void within(const MmdFour& s, int64_t from, int64_t to, double* lanes) {
  const D d;
  V sums[2][mmdPairs(4)];
#pragma GCC unroll 2
  for (auto& set : sums) {
#pragma GCC unroll 6
    for (V& sum : set) sum = hn::Zero(d);
  }
  for (int64_t at = from; at < to; at += kFourFeatures) {
#pragma GCC unroll 2
    for (int set = 0; set < 2; ++set) {
      const float* rows = (set ? s.y : s.x) + at;
      V p[4];
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) p[i] = hn::LoadU(d, rows + i * s.rowStride);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
        for (int j = i + 1; j < 4; ++j) {
          const V difference = hn::Sub(p[i], p[j]);
          V& sum = sums[set][mmdPair(i, j, 4)];
          sum = hn::MulAdd(difference, difference, sum);
        }
      }
    }
  }
#pragma GCC unroll 2
  for (int set = 0; set < 2; ++set) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
      for (int j = i + 1; j < 4; ++j) {
        addTo(lanes + mmdPair(4 * set + i, 4 * set + j, 8) * kMmdLanes, sums[set][mmdPair(i, j, 4)]);
      }
    }
  }
}

void FourDistances(const MmdFour& s, int64_t jump, double* lanes) {
  for (int64_t at = 0; at < s.features; at += kSlice) {
    const int64_t end = std::min(s.features, at + kSlice);
    across(s, at, end, at + kAhead < s.features ? kAhead : kAhead - s.features + jump, lanes);
    within(s, at, end, lanes);
  }
}

template <bool kPaired>
void gradient(const MmdFour& s, const MmdFourSweep& to) {
  const D d;
  const float *own = to.ofY ? s.y : s.x, *other = to.ofY ? s.x : s.y;
  // Of differences within the set, and of those with the other one; in the paired form, of what lies between partners.
  float inner[4][4], outer[4][4];
  for (int j = 0; j < 4; ++j) {
    for (int r = 0; r < 4; ++r) {
      inner[j][r] = to.direct[(!kPaired && to.ofY ? 4 + j : j) * 4 + r];
      outer[j][r] = kPaired ? (to.ofY ? -1 : 1) * to.pairs[j * 4 + r] : to.direct[(to.ofY ? j : 4 + j) * 4 + r];
    }
  }
  for (int64_t at = 0; at < s.features; at += kFourFeatures) {
    V p[4], sums[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) p[i] = hn::LoadU(d, own + i * s.rowStride + at), sums[i] = hn::Zero(d);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
#pragma GCC unroll 4
      for (int j = i + 1; j < 4; ++j) {
        const V difference = hn::Sub(p[i], p[j]);
        sums[i] = hn::MulAdd(hn::Set(d, inner[j][i]), difference, sums[i]);
        sums[j] = hn::NegMulAdd(hn::Set(d, inner[i][j]), difference, sums[j]);
      }
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const V q = hn::LoadU(d, other + j * s.rowStride + at), apart = hn::Sub(q, p[j]);
#pragma GCC unroll 4
      for (int r = 0; r < 4; ++r) {
        sums[r] = hn::MulAdd(hn::Set(d, outer[j][r]), kPaired ? apart : hn::Sub(p[r], q), sums[r]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
      float* out = to.out + r * s.rowStride + at;
      if (to.streamed)
        hn::Stream(sums[r], d, out);
      else
        hn::StoreU(sums[r], d, out);
    }
  }
  if (to.streamed) hwy::FlushStream();
}

void FourGradient(const MmdFour& s, const MmdFourSweep& to) {
  to.pairs ? gradient<true>(s, to) : gradient<false>(s, to);
}

#else

[[noreturn]] void missing() { fail(ErrorCode::Internal, "mmd", "this processor does not take fours"); }
void FourDistances(const MmdFour&, int64_t, double*) { missing(); }
void FourGradient(const MmdFour&, const MmdFourSweep&) { missing(); }

#endif

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(TakesFours);
HWY_EXPORT(FourDistances);
HWY_EXPORT(FourGradient);

bool mmdTakesFours() { return HWY_DYNAMIC_DISPATCH(TakesFours)(); }
void mmdFourDistances(const MmdFour& four, int64_t jump, double* lanes) {
  HWY_DYNAMIC_DISPATCH(FourDistances)(four, jump, lanes);
}
void mmdFourGradient(const MmdFour& four, const MmdFourSweep& sweep) {
  HWY_DYNAMIC_DISPATCH(FourGradient)(four, sweep);
}

}  // namespace flowmap::cpu
#endif
