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

// What is known of a row: the largest score so far, the sum of exponentials of the distances to it, and the sum of
// those times T − shift, where shift is near T's mean under the weights; sums are this lane's share.
struct SoftmaxRow {
  float top, sum, moment, shift;
};

// What a tile changes about a row: the factor for what was summed before, and the tile's own sum of exponentials.
struct SoftmaxStep {
  float factor, sum;
};

// Takes a tile's scores of one row, multiplied by scale · log2 e here, which become their exponentials. kHalf is the
// row of the accumulators. The row sees the first `visible` columns of the tile, or where not `masked` all; in the
// others T becomes 0. row.sum is left to the caller's finishTile.
template <int kHalf, bool kMoving, int kTiles, int kMovingTiles>
__device__ __forceinline__ SoftmaxStep softmaxTile(SoftmaxRow& row, float (&s)[kTiles][4], float (&t)[kMovingTiles][4],
                                                   float scale2, bool masked, int visible) {
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
  float sum = 0;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 2 * kHalf; i < 2 * kHalf + 2; ++i) {
      s[n][i] = exp2Fast(__fsub_rn(s[n][i], base));
      sum = __fadd_rn(sum, s[n][i]);
    }
  }
  return {factor, sum};
}

// Where the largest score rose: moves the shift to T's mean under the weights up to this tile, since what leads may
// have a T far from all before it, and its product with a weight near 1 would be rounded. Every lane of the warp calls
// it.
// -> by how much; what was summed with T − shift is to lose that times the sum without.
template <int kHalf, int kTiles>
__device__ __forceinline__ float moveShift(SoftmaxRow& row, const SoftmaxStep& step, const float (&s)[kTiles][4],
                                           const float (&t)[kTiles][4], float scale) {
  const float before = row.moment * step.factor, mass = row.sum * step.factor;
  float moment = before;
#pragma unroll
  for (int n = 0; n < kTiles; ++n) {
#pragma unroll
    for (int i = 2 * kHalf; i < 2 * kHalf + 2; ++i) moment += (t[n][i] * scale - row.shift) * s[n][i];
  }
  moment = quadSum(moment);
  const float total = quadSum(mass + step.sum);
  const float by = step.factor != 1 && total > 0 ? moment / total : 0;
  row.shift += by;
  // finishTile multiplies by the factor
  row.moment -= by * row.sum;
  return by;
}

// T's values become (scale · T − shift) times the exponentials.
template <int kHalf, bool kMoving, int kTiles, int kMovingTiles>
__device__ __forceinline__ void finishTile(SoftmaxRow& row, const SoftmaxStep& step, const float (&s)[kTiles][4],
                                           float (&t)[kMovingTiles][4], float scale) {
  row.sum = __fmaf_rn(row.sum, step.factor, step.sum);
  if constexpr (kMoving) {
    float moment = 0;
#pragma unroll
    for (int n = 0; n < kTiles; ++n) {
#pragma unroll
      for (int i = 2 * kHalf; i < 2 * kHalf + 2; ++i) {
        t[n][i] = (t[n][i] * scale - row.shift) * s[n][i];
        moment += t[n][i];
      }
    }
    row.moment = row.moment * step.factor + moment;
  }
}

}  // namespace flowmap::cuda
