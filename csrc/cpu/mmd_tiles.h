// The arithmetic of the maximum mean discrepancy over features of one group of P particles, x before y, packed so that
// what is needed at once lies together: [chunks][P][64 bytes], the last chunk filled up with zeros.
#pragma once

#include <cstdint>

#include "core/mmd_args.h"

namespace flowmap::cpu {

template <class C>
constexpr int64_t kMmdChunk = 64 / static_cast<int64_t>(sizeof(C));  // features
constexpr int64_t kMmdLanes = 8;                                     // partial sums kept of each pair
constexpr int64_t kMmdPadding = 8;                                   // elements arrays of pairs have beyond the pairs

// Pairs i < j of P particles in the order (0, 1), (0, 2), …
constexpr int64_t mmdPairs(int64_t particles) { return particles * (particles - 1) / 2; }
constexpr int64_t mmdPair(int64_t i, int64_t j, int64_t particles) {
  return i * (2 * particles - i - 1) / 2 + j - i - 1;
}

// Packs n features of all particles.
void mmdPack(int64_t particles, int64_t n, const float* const* rows, float* packed);
void mmdPack(int64_t particles, int64_t n, const float* const* rows, double* packed);
void mmdPack(int64_t particles, int64_t n, const double* const* rows, double* packed);

// Adds ‖p_i − p_j‖² over the chunks to lanes [pairs, kMmdLanes], and (p_i − p_j)·(tp_i − tp_j) to tangentLanes unless
// tangents is null. Sums of float are float within a call: few chunks at a time.
template <class C>
struct MmdSlice {
  int64_t particles, chunks;
  const C *points, *tangents;
  double *lanes, *tangentLanes;
  // What is read next, fetched while this is computed: `aheadBytes` a chunk from each of P rows; or null.
  const char* const* ahead;
  int64_t aheadBytes;
};
void mmdDistances(const MmdSlice<float>& slice);
void mmdDistances(const MmdSlice<double>& slice);

// sums[pair] = the sum of its lanes
void mmdSumLanes(int64_t pairs, const double* lanes, double* sums);

// From squared distances to kernel values less one (kernel values for 'energy') and to slopes k'(d)/d, which are zero
// where d ≤ eps. A distance that is not finite gives NaN. Arrays are padded by kMmdPadding.
void mmdKernelValues(const MmdOptions& options, double weight, int64_t dim, int64_t pairs, const double* squares,
                     double* values, double* slopes);

// Gradients of the particles first … first + count: out[r] = Σ_j direct[j, r] (p_first+r − p_j) over all particles j;
// or, where `pairs` is not null, out[r] = Σ_j direct[j, r] (p_first+r − p_first+j) + pairs[j, r] (y_j − x_j) over j <
// count, x and y having as many. Coefficients [sources, count].
template <class C>
struct MmdSweep {
  int64_t particles, chunks, first, count;
  const C *points, *direct, *pairs;
  C* const* out;
  bool streamed;  // past the caches; rows of `out` are aligned to 64 bytes
};
void mmdSweep(const MmdSweep<float>& sweep);
void mmdSweep(const MmdSweep<double>& sweep);

}  // namespace flowmap::cpu
