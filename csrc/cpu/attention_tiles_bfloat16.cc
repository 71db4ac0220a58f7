#include "cpu/attention_tiles_bfloat16.h"

#include <hwy/base.h>
#include <hwy/cache_control.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "cpu/attention_blocks.h"
#include "cpu/onednn_product.h"

// Compilers that know the instructions.
#if HWY_ARCH_X86_64 && (HWY_COMPILER_GCC_ACTUAL >= 1000 || HWY_COMPILER_CLANG >= 900)
#pragma GCC diagnostic push  // GCC's own headers use what is undefined on purpose
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
namespace flowmap::cpu {
namespace {

constexpr int64_t kLanes = 16;

inline __m512bh pairs(__m512i bits) { return (__m512bh)bits; }

template <int kRows, int kVectors>
HWY_INLINE void micro(const PairProduct& t, int64_t row, int64_t column) {
  __m512 sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) sum[i][j] = _mm512_setzero_ps();
  }
  float* HWY_RESTRICT c = t.c + row * t.n + column;
  // Sums of long sequences come from far away: they are on their way while the terms are multiplied.
  if (t.accumulate) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) hwy::Prefetch(c + i * t.n + j * kLanes);
    }
  }
  const BFloat16* HWY_RESTRICT a = t.a + row * t.aRow;
  const BFloat16* HWY_RESTRICT b = t.b + 2 * column;
  for (int64_t p = 0; p < t.k; p += 2) {
    __m512bh right[kVectors];
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) right[j] = pairs(_mm512_loadu_si512(b + j * 2 * kLanes));
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      int32_t two;
      std::memcpy(&two, a + i * t.aRow, sizeof(two));
      const __m512bh left = pairs(_mm512_set1_epi32(two));
#pragma GCC unroll 4
      for (int j = 0; j < kVectors; ++j) sum[i][j] = _mm512_dpbf16_ps(sum[i][j], left, right[j]);
    }
    a += t.aPair;
    b += 2 * t.n;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kVectors; ++j) {
      float* to = c + i * t.n + j * kLanes;
      _mm512_storeu_ps(to, t.accumulate ? _mm512_add_ps(sum[i][j], _mm512_loadu_ps(to)) : sum[i][j]);
    }
  }
}

struct Blocks {
  static constexpr int kMaxVectors = 4;
  static constexpr int rowsFor(int vectors) {  // 24 of 32 registers hold sums
    return vectors == 4 ? 6 : vectors == 3 ? 8 : 12;
  }
  template <int kRows, int kVectors>
  static HWY_NOINLINE void run(const PairProduct& t, int64_t row, int64_t column) {
    micro<kRows, kVectors>(t, row, column);
  }
};

void product(const PairProduct& t) { forBlocks<Blocks>(t, kLanes); }

// The lanes from j on that are within n.
HWY_INLINE __mmask16 within(int64_t n, int64_t j) {
  return n - j < kLanes ? static_cast<__mmask16>((1u << (n - j)) - 1) : static_cast<__mmask16>(0xffffu);
}

// For step = 1, 2, 4, 8: exchanges the off-diagonal squares of `step` in each square of 2 · step.
template <int kStep>
HWY_INLINE void exchange(__m512i (&x)[16]) {
  alignas(64) int32_t first[16], second[16];
  for (int i = 0; i < 16; ++i) {
    // Index 16 + i is lane i of the second operand.
    first[i] = i & kStep ? 16 + i - kStep : i;
    second[i] = i & kStep ? 16 + i : i + kStep;
  }
  const __m512i low = _mm512_load_si512(first), high = _mm512_load_si512(second);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) {
    if (i & kStep) continue;
    const __m512i a = x[i], b = x[i + kStep];
    x[i] = _mm512_permutex2var_epi32(a, low, b);
    x[i + kStep] = _mm512_permutex2var_epi32(a, high, b);
  }
}

void transpose(const BFloat16* x, int64_t stride, int64_t rows, int64_t pairs, int64_t columns, int64_t width,
               BFloat16* to) {
  for (int64_t first = 0; first < columns; first += kLanes) {
    for (int64_t p = 0; p < pairs; p += kLanes) {
      const __mmask16 inside = within(pairs, p);
      __m512i square[16];
#pragma GCC unroll 16
      for (int i = 0; i < 16; ++i) {
        square[i] = _mm512_maskz_loadu_epi32(first + i < rows ? inside : 0, x + (first + i) * stride + 2 * p);
      }
      exchange<1>(square);
      exchange<2>(square);
      exchange<4>(square);
      exchange<8>(square);
      for (int i = 0; i < std::min(kLanes, pairs - p); ++i) {
        _mm512_storeu_si512(to + 2 * ((p + i) * width + first), square[i]);
      }
    }
  }
}

HWY_INLINE __m512i widenBits(__mmask16 some, const BFloat16* x) {
  return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, x));
}
HWY_INLINE __m512 widen(__mmask16 some, const BFloat16* x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(widenBits(some, x), 16));
}

void scaleAndRound(int64_t n, float factor, const float* row, BFloat16* to) {
  const __m512 by = _mm512_set1_ps(factor);
  for (int64_t j = 0; j < n; j += kLanes) {
    const __mmask16 some = within(n, j);
    const __m512 x = _mm512_mul_ps(by, _mm512_maskz_loadu_ps(some, row + j));
    _mm256_mask_storeu_epi16(to + j, some, (__m256i)_mm512_cvtneps_pbh(x));
  }
}

void pair(int64_t n, const float* first, const float* second, BFloat16* to) {
  // Lanes 0, 16, 1, 17, … of the rounded rows, one after the other.
  alignas(64) static constexpr uint16_t kOrder[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kOrder);
  for (int64_t j = 0; j < n; j += kLanes) {
    const __mmask16 some = within(n, j);
    const __m512 odd = second ? _mm512_maskz_loadu_ps(some, second + j) : _mm512_setzero_ps();
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(odd, _mm512_maskz_loadu_ps(some, first + j));
    _mm512_storeu_si512(to + 2 * j, _mm512_permutexvar_epi16(order, both));
  }
}

void pair(int64_t n, const BFloat16* first, const BFloat16* second, BFloat16* to) {
  for (int64_t j = 0; j < n; j += kLanes) {
    const __mmask16 some = within(n, j);
    __m512i both = widenBits(some, first + j);
    if (second) both = _mm512_or_si512(both, _mm512_slli_epi32(widenBits(some, second + j), 16));
    _mm512_storeu_si512(to + 2 * j, both);
  }
}

float dot(int64_t n, const BFloat16* g, const BFloat16* o, const float* mean) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t j = 0; j < n; j += kLanes) {
    const __mmask16 some = within(n, j);
    const __m512 difference = _mm512_sub_ps(widen(some, o + j), _mm512_maskz_loadu_ps(some, mean + j));
    sum = _mm512_fmadd_ps(widen(some, g + j), difference, sum);
  }
  return _mm512_reduce_add_ps(sum);
}

bool decide() { return __builtin_cpu_supports("avx512bf16") && multipliesBFloat16(); }

}  // namespace

bool hasBFloat16Tiles() {
  static const bool has = decide();
  return has;
}
void tileProduct(const PairProduct& t) { product(t); }
void transposePairs(const BFloat16* x, int64_t stride, int64_t rows, int64_t pairs, int64_t columns, int64_t width,
                    BFloat16* to) {
  transpose(x, stride, rows, pairs, columns, width, to);
}
void roundRow(int64_t n, float factor, const float* row, BFloat16* to) { scaleAndRound(n, factor, row, to); }
void pairRows(int64_t n, const float* first, const float* second, BFloat16* to) { pair(n, first, second, to); }
void pairRows(int64_t n, const BFloat16* first, const BFloat16* second, BFloat16* to) { pair(n, first, second, to); }
float dotDifference(int64_t n, const BFloat16* g, const BFloat16* o, const float* mean) { return dot(n, g, o, mean); }

}  // namespace flowmap::cpu
HWY_POP_ATTRIBUTES

#else

namespace flowmap::cpu {

namespace {
[[noreturn]] void missing() { fail(ErrorCode::Internal, "attention", "this build has no tiles of bfloat16"); }
}  // namespace

bool hasBFloat16Tiles() { return false; }
void tileProduct(const PairProduct&) { missing(); }
void transposePairs(const BFloat16*, int64_t, int64_t, int64_t, int64_t, int64_t, BFloat16*) { missing(); }
void roundRow(int64_t, float, const float*, BFloat16*) { missing(); }
void pairRows(int64_t, const float*, const float*, BFloat16*) { missing(); }
void pairRows(int64_t, const BFloat16*, const BFloat16*, BFloat16*) { missing(); }
float dotDifference(int64_t, const BFloat16*, const BFloat16*, const float*) { missing(); }

}  // namespace flowmap::cpu
#endif
