// Contiguous runs of the optimiser's kernels, with the roundings of core/optim_formulas.h.
#pragma once

#include <cstdint>

#include "core/optim_formulas.h"

namespace flowmap::cpu {

// One step of n parameters and their moments, in place; gradients are multiplied by `factor` first.
template <class C>
struct MomentRun {
  int64_t n;
  C* value;
  C* m;
  C* v;
  const C* gradient;
  C factor;
};
void momentRun(const MomentNumbers<float>& with, bool adaptive, bool coupled, const MomentRun<float>& run);
void momentRun(const MomentNumbers<double>& with, bool adaptive, bool coupled, const MomentRun<double>& run);

// average ← keep · average + take · value
void averageRun(int64_t n, float keep, float* average, float take, const float* value);
void averageRun(int64_t n, double keep, double* average, double take, const double* value);

// Sums of squares in double, in one order at every SIMD level.
double squaresRun(int64_t n, const float* x);
double squaresRun(int64_t n, const double* x);

}  // namespace flowmap::cpu
