// Compiled once per SIMD level.
#include "cpu/product_panels.h"

#include <hwy/cache_control.h>

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/product_panels.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/attention_tiles.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Sums are rows × vectors registers, 24 of 32 or 12 of 16: eleven loads, or seven, for as many products keep both
// multipliers fed.
#if HWY_TARGET <= HWY_AVX3
constexpr int kRows = 8;
#else
constexpr int kRows = 4;
#endif
constexpr int kVectors = 3;
// Rows of a panel that are fetched ahead.
constexpr int kAhead = 8;
// Rows of a matrix that are fetched while others are packed.
constexpr int kFetched = 16;

template <int kHeight, int kWidth, bool kGrouped>
HWY_INLINE void block(const PanelProduct& t, const float* HWY_RESTRICT a, float* HWY_RESTRICT c, const float* offset) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V sum[kHeight][kWidth];
#pragma GCC unroll 8
  for (int i = 0; i < kHeight; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < kWidth; ++j) {
      sum[i][j] = hn::Zero(d);
      if (t.accumulate) hwy::Prefetch(c + i * t.cRow + j * lanes);
    }
  }
  const float* HWY_RESTRICT b = t.b;
  const int64_t aRow = kGrouped ? 1 : t.aRow;
  const int64_t depth = t.depth;
#pragma GCC unroll 2
  for (int64_t p = 0; p < depth; ++p) {
    V right[kWidth];
#pragma GCC unroll 3
    for (int j = 0; j < kWidth; ++j) {
      right[j] = hn::LoadU(d, b + j * lanes);
      hwy::Prefetch(b + (kAhead * kVectors + j) * lanes);
    }
#pragma GCC unroll 8
    for (int i = 0; i < kHeight; ++i) {
      const V left = hn::Set(d, a[i * aRow]);
#pragma GCC unroll 3
      for (int j = 0; j < kWidth; ++j) sum[i][j] = hn::MulAdd(left, right[j], sum[i][j]);
    }
    a += kGrouped ? kRows : 1;
    b += kVectors * lanes;
  }
  const int64_t last = t.columns - (kWidth - 1) * lanes;
  const auto there = hn::FirstN(d, static_cast<size_t>(last));
#pragma GCC unroll 8
  for (int i = 0; i < kHeight; ++i) {
#pragma GCC unroll 3
    for (int j = 0; j < kWidth; ++j) {
      float* to = c + i * t.cRow + j * lanes;
      const float* from = t.accumulate ? to : offset ? offset + j * lanes : nullptr;
      if (j < kWidth - 1 || last == lanes) {
        hn::StoreU(from ? hn::Add(sum[i][j], hn::LoadU(d, from)) : sum[i][j], d, to);
      } else {
        // Parts of a vector one by one: what lies beyond may be nobody's.
        hn::BlendedStore(from ? hn::Add(sum[i][j], hn::MaskedLoad(there, d, from)) : sum[i][j], there, d, to);
      }
    }
  }
}

template <int kWidth, bool kGrouped>
HWY_NOINLINE HWY_ATTR void rowsOf(const PanelProduct& t) {
  int64_t row = 0;
  const float* a = t.a;
  float* c = t.c;
  for (; row + kRows <= t.rows; row += kRows, a += kGrouped ? t.aGroup : kRows * t.aRow, c += kRows * t.cRow) {
    block<kRows, kWidth, kGrouped>(t, a, c, t.offset);
  }
  const int64_t aRow = kGrouped ? 1 : t.aRow;
  if (kRows > 4 && row + 4 <= t.rows) {
    block<4, kWidth, kGrouped>(t, a, c, t.offset);
    row += 4, a += 4 * aRow, c += 4 * t.cRow;
  }
  if (row + 2 <= t.rows) {
    block<2, kWidth, kGrouped>(t, a, c, t.offset);
    row += 2, a += 2 * aRow, c += 2 * t.cRow;
  }
  if (row < t.rows) block<1, kWidth, kGrouped>(t, a, c, t.offset);
}

template <bool kGrouped>
void panel(const PanelProduct& t) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>()));
  const int64_t width = (t.columns + lanes - 1) / lanes;
  width == 1 ? rowsOf<1, kGrouped>(t) : width == 2 ? rowsOf<2, kGrouped>(t) : rowsOf<3, kGrouped>(t);
}

void Panel(const PanelProduct& t) { t.grouped ? panel<true>(t) : panel<false>(t); }

void PackPanel(const float* b, int64_t stride, int64_t depth, int64_t columns, float* panel) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t p = 0; p < depth; ++p, b += stride, panel += kVectors * lanes) {
    if (columns == kVectors * lanes) {
#pragma GCC unroll 3
      for (int j = 0; j < kVectors; ++j) {
        hwy::Prefetch(b + kFetched * stride + j * lanes);
        hn::StoreU(hn::LoadU(d, b + j * lanes), d, panel + j * lanes);
      }
    } else {
      std::copy_n(b, columns, panel);
      std::fill(panel + columns, panel + kVectors * lanes, 0.0f);
    }
  }
}

void PackGroups(const float* a, int64_t stride, int64_t depth, int64_t rows, float* to, int64_t group) {
  const hn::CappedTag<float, kRows> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t whole = rows / kRows * kRows;
  for (int64_t p = 0; p < depth; ++p, a += stride) {
    float* at = to + p * kRows;
    for (int64_t i = 0; i < whole; i += kRows, at += group) {
      hwy::Prefetch(a + kFetched * stride + i);
      for (int64_t j = 0; j < kRows; j += lanes) hn::StoreU(hn::LoadU(d, a + i + j), d, at + j);
    }
    if (whole < rows) {
      std::copy_n(a + whole, rows - whole, at);
      std::fill(at + rows - whole, at + kRows, 0.0f);
    }
  }
}

PanelSizes Sizes() { return {kRows, kVectors * static_cast<int64_t>(hn::Lanes(hn::ScalableTag<float>()))}; }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(Sizes);
HWY_EXPORT(Panel);
HWY_EXPORT(PackPanel);
HWY_EXPORT(PackGroups);

PanelSizes panelSizes() {
  static const PanelSizes sizes = HWY_DYNAMIC_DISPATCH(Sizes)();
  return sizes;
}
void panelProduct(const PanelProduct& product) { HWY_DYNAMIC_DISPATCH(Panel)(product); }

void packPanel(const float* b, int64_t stride, int64_t depth, int64_t columns, float* panel) {
  HWY_DYNAMIC_DISPATCH(PackPanel)(b, stride, depth, columns, panel);
}

void packPanelTransposed(const float* b, int64_t stride, int64_t depth, int64_t columns, float* panel) {
  transposeTile(b, stride, columns, depth, panelSizes().columns, panel);
}

void packGroups(const float* a, int64_t stride, int64_t depth, int64_t rows, float* to, int64_t group) {
  HWY_DYNAMIC_DISPATCH(PackGroups)(a, stride, depth, rows, to, group);
}

}  // namespace flowmap::cpu
#endif
