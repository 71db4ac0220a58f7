// The arithmetic of the maximum mean discrepancy over one slice of the features of one group: P particles, x before y.
// Rows are float or double and a multiple of kMmdStep long; arithmetic is in double.
#pragma once

#include <cstdint>

#include "core/mmd_args.h"

namespace flowmap::cpu {

constexpr int64_t kMmdStep = 16;    // the widest vector's floats
constexpr int64_t kMmdLanes = 8;    // partial sums kept of each pair, as many as the widest vector has doubles
constexpr int64_t kMmdPadding = 8;  // arrays of pairs have this many elements more than pairs

// Pairs i < j of P particles in the order (0, 1), (0, 2), …
constexpr int64_t mmdPairs(int64_t particles) { return particles * (particles - 1) / 2; }
constexpr int64_t mmdPair(int64_t i, int64_t j, int64_t particles) {
  return i * (2 * particles - i - 1) / 2 + j - i - 1;
}

// Adds ‖p_i − p_j‖² over the slice to lanes [pairs, kMmdLanes], and (p_i − p_j)·(tp_i − tp_j) to tangentLanes unless
// tangents is null.
void mmdDistances(int64_t particles, int64_t n, const float* const* rows, const float* const* tangents, double* lanes,
                  double* tangentLanes);
void mmdDistances(int64_t particles, int64_t n, const double* const* rows, const double* const* tangents, double* lanes,
                  double* tangentLanes);

// sums[pair] = the sum of its lanes
void mmdSumLanes(int64_t pairs, const double* lanes, double* sums);

// From squared distances to kernel values less one (kernel values for 'energy') and to slopes k'(d)/d, which are zero
// where d ≤ eps. A distance that is not finite gives NaN. Arrays are padded by kMmdPadding.
void mmdKernelValues(const MmdOptions& options, double weight, int64_t dim, int64_t pairs, const double* squares,
                     double* values, double* slopes);

// out[r] = Σ_j coefficients[j, first + r] (p_first+r − p_j), r < count; coefficients [P, P]
void mmdSweep(int64_t particles, int64_t n, const float* const* rows, int64_t first, int64_t count,
              const double* coefficients, float* const* out);
void mmdSweep(int64_t particles, int64_t n, const double* const* rows, int64_t first, int64_t count,
              const double* coefficients, double* const* out);

}  // namespace flowmap::cpu
