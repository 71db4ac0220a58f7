// Rows of scores in the accumulators of mma: a row of 16 lies in four neighbouring lanes (a quad), and every lane has
// two rows of each strip. Exponents are in base 2. Which product contracts into an addition is written out: the same
// row has the same bits in every variant of a kernel.
#pragma once

#include <cmath>
#include <cstdint>

namespace flowmap::cuda {

constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.693147180559945309f;

// 2^x; 0 for −∞ and for what would be denormal.
__device__ __forceinline__ float exp2Fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float quadMax(float x) {
  x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

__device__ __forceinline__ float quadSum(float x) {
  x = __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, 1));
  return __fadd_rn(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

// What is known of a row: the largest score so far, the sum of exponentials of the distances to it, the sum of those
// times T − shift, where shift is T's mean over the first tile; sums are this lane's share.
struct SoftmaxRow {
  float top, sum, moment, shift;
};

// Takes a tile's scores of one row, multiplied by scale · log2 e here, which become their exponentials, and where
// kMoving T's values, which become (scale · T − shift) times those. kHalf is the row of the accumulators. The row sees
// the first `visible` columns of the tile, or where not `masked` all.
// -> the factor for what was summed before.
template <int kHalf, bool kMoving, int kTiles, int kMovingTiles>
__device__ __forceinline__ float softmaxTile(SoftmaxRow& row, float (&s)[kTiles][4], float (&t)[kMovingTiles][4],
                                             float scale2, float scale, bool masked, int visible, bool first) {
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 2 * kHalf; i < 2 * kHalf + 2; ++i) s[n][i] = __fmul_rn(s[n][i], scale2);
  }
  if (masked) {
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 2 * kHalf; i < 2 * kHalf + 2; ++i) {
        if (n * 8 + column + i % 2 < visible) continue;
        s[n][i] = -INFINITY;
        if constexpr (kMoving) t[n][i] = 0;
      }
    }
  }
  float top = row.top;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) top = fmaxf(top, fmaxf(s[n][2 * kHalf], s[n][2 * kHalf + 1]));
  top = quadMax(top);
  const float base = top == -INFINITY ? 0 : top;
  const float factor = exp2Fast(__fsub_rn(row.top, base));
  row.top = top;
  if constexpr (kMoving) {
    if (first) {
      float mean = 0;
#pragma unroll
      for (int n = 0; n < kTiles; ++n) mean += t[n][2 * kHalf] + t[n][2 * kHalf + 1];
      row.shift = quadSum(mean) * scale / static_cast<float>(masked ? max(1, min(visible, 8 * kTiles)) : 8 * kTiles);
    }
  }
  float sum = 0, moment = 0;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 2 * kHalf; i < 2 * kHalf + 2; ++i) {
      s[n][i] = exp2Fast(__fsub_rn(s[n][i], base));
      sum = __fadd_rn(sum, s[n][i]);
      if constexpr (kMoving) {
        t[n][i] = __fmul_rn(__fmaf_rn(t[n][i], scale, -row.shift), s[n][i]);
        moment = __fadd_rn(moment, t[n][i]);
      }
    }
  }
  row.sum = __fmaf_rn(row.sum, factor, sum);
  if constexpr (kMoving) row.moment = __fmaf_rn(row.moment, factor, moment);
  return factor;
}

}  // namespace flowmap::cuda
