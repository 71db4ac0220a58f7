// How a launch of the maximum mean discrepancy is cut: a unit is a group, or a part of the features of one, and threads
// of a block have columns of its particles, 16 bytes of every row each.
#pragma once

#include "core/mmd_args.h"
#include "cuda/divisor.h"
#include "cuda/fault.h"
#include "cuda/lane_groups.cuh"
#include "cuda/packet.cuh"

namespace flowmap::cuda {

template <class T>
constexpr int kMmdCount = kPacketBytes / static_cast<int>(sizeof(T));  // features of a packet
template <class T>
using MmdPacket = Packet<T, kMmdCount<T>>;

struct MmdPlan {
  int64_t firstGroup, groups, units, parts;
  int64_t dim, packets, packetsPerPart;  // of a row
  Divisor byParts;
  int m, n, rows;    // rows: particles, and their tangents
  int columns;       // threads of a block that have packets
  int steps, slots;  // packets of a row that a thread has of each unit, and has room for
  int width;         // bytes that rows are multiples of: 2, 4, 8, 16

  __device__ __forceinline__ int particles() const { return m + n; }
};

// Features of one row that a thread adds up in float before the sum goes to double: so many that rounding errors stay
// far below those of the inputs.
constexpr int kMmdFloatRun = 64;

// Rows of gradient coefficients are whole packets.
constexpr __host__ __device__ int mmdPadded(int count) { return (count + 3) / 4 * 4; }

// Pairs i < j of `particles` in the order (0, 1), (0, 2), …
constexpr __host__ __device__ int mmdPairs(int particles) { return particles * (particles - 1) / 2; }
__device__ __forceinline__ int mmdPair(int i, int j, int particles) {
  return i * (2 * particles - i - 1) / 2 + j - i - 1;
}

struct MmdFormula {
  static constexpr int kScales = 16;
  MmdKernel kernel;
  bool unbiased;
  int bandwidths;
  double eps;
  double scales[kScales];  // 1 / (h D) or 1 / (h² D), of the first bandwidths
  const double* more;      // and of the others
};

// What there is one of per group; absent: null, and ones for what is read.
template <class S>
struct MmdPerGroup {
  const S *weight, *lossWeight, *g;
  S *value, *tangent;
  FaultRecord* fault;
  FaultName name;
};

template <class T>
struct MmdRows {
  const T *x, *y, *tx, *ty;
  T *gx, *gy;
};

// What is computed of a group between its distances and its gradients. `squares` become distances, `slopes` are the
// kernel's derivatives by the distance over the distance, times everything they are weighted with; both have one
// element more than there are pairs, for a particle with itself. coefficients[set] is [sources, mmdPadded(count)], the
// set's own particles first.
template <class C>
struct MmdGroup {
  double *squares, *tangents, *slopes;
  C* coefficients[2];
};

}  // namespace flowmap::cuda
