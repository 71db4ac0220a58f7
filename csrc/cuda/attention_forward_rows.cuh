// What the forward kernels of attention do with a strip of 16 queries, whichever instruction makes its accumulators: a
// tile of scores becomes weights, sums follow a maximum that rose, and at the end rows are divided by their sums.
#pragma once

#include "cuda/attention_softmax.cuh"

namespace flowmap::cuda {

// Takes a tile's scores s and their tangents t, both without the scale, which become the weights and (T − shift) times
// them; what was summed before, o and to, keeps up. `visible` says how many of the tile's keys a row sees, 0 for the
// lane's first row and 8 for the other: asked when it is needed, as registers are scarce.
template <bool kMoving, int kTiles, int kMovingTiles, int kColumns, int kMovingColumns, class Visible>
__device__ __forceinline__ void advanceStrip(SoftmaxRow (&state)[2], float (&s)[kTiles][4], float (&t)[kMovingTiles][4],
                                             float (&o)[kColumns][4], float (&to)[kMovingColumns][4], float scale,
                                             float scale2, bool masked, const Visible& visible) {
  const SoftmaxStep steps[2] = {softmaxTile<0, kMoving>(state[0], s, t, scale2, masked, visible(0)),
                                softmaxTile<1, kMoving>(state[1], s, t, scale2, masked, visible(8))};
  if (__any_sync(0xffffffffu, steps[0].factor != 1 || steps[1].factor != 1)) {
    float by[2];
    if constexpr (kMoving) {
      by[0] = moveShift<0>(state[0], steps[0], s, t, scale);
      by[1] = moveShift<1>(state[1], steps[1], s, t, scale);
    }
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        o[n][i] = __fmul_rn(o[n][i], steps[i / 2].factor);
        if constexpr (kMoving) to[n][i] = to[n][i] * steps[i / 2].factor - by[i / 2] * o[n][i];
      }
    }
  }
  finishTile<0, kMoving>(state[0], steps[0], s, t, scale);
  finishTile<1, kMoving>(state[1], steps[1], s, t, scale);
}

// What the forward pass keeps of a row.
struct RowStatistics {
  float lse, mu;
};

// The sums of the lane's row kHalf become O and tO. A row that sees nothing is zero, unless it is not `known` what it
// sees.
template <int kHalf, bool kMoving, int kColumns, int kMovingColumns>
__device__ __forceinline__ RowStatistics endRow(const SoftmaxRow& row, float (&o)[kColumns][4],
                                                float (&to)[kMovingColumns][4], bool known, bool sees) {
  const float sum = quadSum(row.sum);
  const float inverse = !known ? NAN : sees ? 1 / sum : 0;
  float mean = 0;
  if constexpr (kMoving) mean = quadSum(row.moment) * inverse;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int i = 2 * kHalf; i < 2 * kHalf + 2; ++i) {
      o[n][i] = __fmul_rn(o[n][i], inverse);
      if constexpr (kMoving) to[n][i] = to[n][i] * inverse - mean * o[n][i];
    }
  }
  return {!known ? NAN : sees ? __fmaf_rn(row.top, kLn2, logf(sum)) : INFINITY, !known ? NAN : row.shift + mean};
}

}  // namespace flowmap::cuda
