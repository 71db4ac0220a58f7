// Tiles of attention on the CPU's bfloat16 instructions (AVX512_BF16): products of bfloat16 with sums in float32, twice
// as fast as those of float32, and the rounding of weights into operands of the next product. Terms come in pairs:
// k counts them, an odd last one has a partner of zeros on both sides. The instructions take denormals for zeros.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace flowmap::cpu {

// Whether the processor has the instructions, and other products use them as well.
bool hasBFloat16Tiles();

// c [m, n] = a b, or += with `accumulate`. Terms p and p + 1 of row i of a (p even) lie side by side at
// a[i · aRow + p / 2 · aPair]; b is [⌈k / 2⌉, n, 2], c has rows of n; n is a multiple of 16.
struct PairProduct {
  int64_t m, n, k;
  const BFloat16* a;
  int64_t aRow, aPair;
  const BFloat16* b;
  float* c;
  bool accumulate;
};
void tileProduct(const PairProduct& t);

// The first `columns` of to [pairs, width, 2] = the transpose of x [rows, 2 · pairs], whose rows are `stride` apart;
// columns from `rows` on are zero. Both widths are multiples of 16.
void transposePairs(const BFloat16* x, int64_t stride, int64_t rows, int64_t pairs, int64_t columns, int64_t width,
                    BFloat16* to);

// to [n] = factor · row, rounded.
void roundRow(int64_t n, float factor, const float* row, BFloat16* to);
// to [n, 2]: two rows side by side, with zeros up to a multiple of 16; `second` may be null: zeros.
void pairRows(int64_t n, const float* first, const float* second, BFloat16* to);
void pairRows(int64_t n, const BFloat16* first, const BFloat16* second, BFloat16* to);

// The sum of g · (o − mean).
float dotDifference(int64_t n, const BFloat16* g, const BFloat16* o, const float* mean);

}  // namespace flowmap::cpu
