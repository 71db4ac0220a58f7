// The maximum mean discrepancy of groups of four and four particles in float, the usual size in training: the rows are
// read as they lie and all pairs of a vector of features are in registers. Larger groups are packed: see mmd_tiles.h.
#pragma once

#include <cstdint>

namespace flowmap::cpu {

// Features come in whole vectors of this many.
constexpr int64_t kFourFeatures = 16;

// Whether the processor has registers enough.
bool mmdTakesFours();

// Some features of a group: rows of x and y are rowStride apart.
struct MmdFour {
  const float *x, *y;
  int64_t rowStride, features;
};

// Adds ‖p_i − p_j‖² of all pairs to lanes as mmdDistances does. What lies ahead of the features is fetched meanwhile:
// past their end, what lies `jump` after their beginning.
void mmdFourDistances(const MmdFour& four, int64_t jump, double* lanes);

// The gradient of x or of y, as MmdSweep says. Rows of `out` are as far apart as the particles.
struct MmdFourSweep {
  bool ofY;
  const float *direct, *pairs;
  float* out;
  bool streamed;  // past the caches; rows of `out` are aligned to 64 bytes
};
void mmdFourGradient(const MmdFour& four, const MmdFourSweep& sweep);

}  // namespace flowmap::cpu
