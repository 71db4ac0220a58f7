// Compiled once per SIMD level.
#include "cpu/attention_tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_tiles.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/attention_blocks.h"
#include "cpu/attention_rows-inl.h"

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
void TransposeTile(const float* src, int64_t stride, int64_t rows, int64_t dim, int64_t width, float* dst) {
  transpose(src, stride, rows, dim, width, dst);
}
void StartSoftmaxF(int64_t rows, SoftmaxState<float>& state) { start(rows, state); }
void StartSoftmaxD(int64_t rows, SoftmaxState<double>& state) { start(rows, state); }
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
void startSoftmax(int64_t rows, SoftmaxState<float>& state) { HWY_DYNAMIC_DISPATCH(StartSoftmaxF)(rows, state); }
void startSoftmax(int64_t rows, SoftmaxState<double>& state) { HWY_DYNAMIC_DISPATCH(StartSoftmaxD)(rows, state); }
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
