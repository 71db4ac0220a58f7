// What reductions do with contiguous runs, vectorised per SIMD level. Sums of floats are kept in double: it costs
// nothing where memory is the limit, and leaves one rounding.
#pragma once

#include <cstdint>

namespace flowmap::cpu {

double sumRun(const float* x, int64_t n);
double sumRun(const double* x, int64_t n);
int64_t sumRun(const int32_t* x, int64_t n);

// total[i] += x[i]
void addRun(double* total, const float* x, int64_t n);
void addRun(double* total, const double* x, int64_t n);
void addRun(int64_t* total, const int32_t* x, int64_t n);

// The largest, or smallest, of n >= 1 values; NaN if there is one.
float extremeRun(bool largest, const float* x, int64_t n);
double extremeRun(bool largest, const double* x, int64_t n);
int32_t extremeRun(bool largest, const int32_t* x, int64_t n);
uint8_t extremeRun(bool largest, const uint8_t* x, int64_t n);

// best[i] = the larger, or smaller, of best[i] and x[i]; NaN if either is
void keepExtremeRun(bool largest, float* best, const float* x, int64_t n);
void keepExtremeRun(bool largest, double* best, const double* x, int64_t n);
void keepExtremeRun(bool largest, int32_t* best, const int32_t* x, int64_t n);
void keepExtremeRun(bool largest, uint8_t* best, const uint8_t* x, int64_t n);

}  // namespace flowmap::cpu
