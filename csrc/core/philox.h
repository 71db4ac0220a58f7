// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011) and normal variates from it. Only
// correctly rounded operations (+ − × ÷ √ fma), each written out, so that every device draws the same bits: a product
// that is added to is exact or goes through fma, so a compiler that contracts changes nothing.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "core/host_device.h"

namespace flowmap::philox {

struct Block {
  uint32_t word[4];
};

// The block at `counter` of the sequence `seed`.
FLOWMAP_HOST_DEVICE inline Block draw(uint64_t seed, uint64_t counter) {
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0, c3 = 0;
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ key0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ key1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// 24 bits in [0, 1).
FLOWMAP_HOST_DEVICE inline float uniform24(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// 53 bits in [0, 1).
FLOWMAP_HOST_DEVICE inline double uniform53(uint32_t high, uint32_t low) {
  const uint64_t bits = (static_cast<uint64_t>(high) << 21) ^ (low >> 11);
  return static_cast<double>(bits) * 0x1p-53;
}

// ln x for x in (0, 1]: 2 artanh of (m − 1)/(m + 1) for the mantissa m in [√½, √2), by its series.
FLOWMAP_HOST_DEVICE inline double logUnit(double x) {
  double exponent = 0;
  for (int step = 32; step > 0; step /= 2) {
    // x · 2^step while that stays below 1: exact, and the same everywhere.
    const double scale = static_cast<double>(uint64_t{1} << step);
    if (x * scale < 1) {
      x *= scale;
      exponent -= step;
    }
  }
  if (x * 2 < 1) {
    x *= 2;
    exponent -= 1;
  }
  if (x < 0.70710678118654752) {
    x *= 2;
    exponent -= 1;
  }
  const double s = (x - 1) / (x + 1), s2 = s * s;
  double series = 1.0 / 21;
  for (int odd = 19; odd >= 1; odd -= 2) series = fma(series, s2, 1.0 / odd);
  return fma(exponent, 0.69314718055994531, 2 * s * series);
}

// sin and cos of 2πu for u in [0, 1).
FLOWMAP_HOST_DEVICE inline void sincosTurn(double u, double* sine, double* cosine) {
  const int quarter = static_cast<int>(u * 4 + 0.5);
  const double x = (u - quarter * 0.25) * 6.283185307179586;
  const double x2 = x * x;
  double s = -1.0 / 1307674368000.0;
  s = fma(s, x2, 1.0 / 6227020800.0);
  s = fma(s, x2, -1.0 / 39916800.0);
  s = fma(s, x2, 1.0 / 362880.0);
  s = fma(s, x2, -1.0 / 5040.0);
  s = fma(s, x2, 1.0 / 120.0);
  s = fma(s, x2, -1.0 / 6.0);
  s = fma(s * x2, x, x);
  double c = 1.0 / 20922789888000.0;
  c = fma(c, x2, -1.0 / 87178291200.0);
  c = fma(c, x2, 1.0 / 479001600.0);
  c = fma(c, x2, -1.0 / 3628800.0);
  c = fma(c, x2, 1.0 / 40320.0);
  c = fma(c, x2, -1.0 / 720.0);
  c = fma(c, x2, 1.0 / 24.0);
  c = fma(c, x2, -0.5);
  c = fma(c, x2, 1.0);
  switch (quarter & 3) {
    case 0:
      *sine = s, *cosine = c;
      break;
    case 1:
      *sine = c, *cosine = -s;
      break;
    case 2:
      *sine = -s, *cosine = -c;
      break;
    default:
      *sine = -c, *cosine = s;
      break;
  }
}

// Two independent normals by Box and Muller; u1 in (0, 1], u2 in [0, 1).
FLOWMAP_HOST_DEVICE inline void normalPair(double u1, double u2, double* first, double* second) {
  const double radius = sqrt(-2 * logUnit(u1));
  double s, c;
  sincosTurn(u2, &s, &c);
  *first = radius * c;
  *second = radius * s;
}

// Four normals for float32 and narrower types from the block.
FLOWMAP_HOST_DEVICE inline void normals32(const Block& block, float out[4]) {
  for (int pair = 0; pair < 2; ++pair) {
    double a, b;
    normalPair((block.word[2 * pair] + 1.0) * 0x1p-32, block.word[2 * pair + 1] * 0x1p-32, &a, &b);
    out[2 * pair] = static_cast<float>(a);
    out[2 * pair + 1] = static_cast<float>(b);
  }
}

// Two normals for float64.
FLOWMAP_HOST_DEVICE inline void normals64(const Block& block, double out[2]) {
  normalPair(uniform53(block.word[0], block.word[1]) + 0x1p-53, uniform53(block.word[2], block.word[3]), out, out + 1);
}

}  // namespace flowmap::philox
