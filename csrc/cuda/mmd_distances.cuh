// Squared distances of all pairs of a unit's particles, by direct differences: a thread adds up its columns in
// registers, one tile of pairs after another, and the block joins them.
#pragma once

#include "core/dispatch.h"
#include "cuda/mmd_columns.cuh"
#include "cuda/mmd_join.cuh"

namespace flowmap::cuda {

template <class C, class T>
__device__ __forceinline__ C mmdElement(const MmdPacket<T>& packet, int i) {
  return static_cast<C>(static_cast<Compute<T>>(packet.at[i]));
}

// Particles of a side of a tile: as many as leave sums and packets in registers.
template <class T, class C, bool kTangent>
constexpr int kMmdTile = sizeof(C) == 4 && !kTangent                    ? 8
                         : sizeof(C) == 8 && sizeof(T) == 2 && kTangent ? 2
                                                                        : 4;

// Steps whose features are added up in C.
template <class T, class C>
__device__ __forceinline__ int mmdRunSteps(int steps) {
  return sizeof(C) == 8 ? steps : kMmdFloatRun / kMmdCount<T>;
}

// kCount particles, all pairs of them; all of a group.
template <int kParticles, class C, class T, class Join>
__device__ __forceinline__ void mmdMeasureFew(MmdColumns<T>& columns, const MmdPlan& plan, double* squares,
                                              Join& join) {
  constexpr int kPairs = mmdPairs(kParticles);
  const int run = mmdRunSteps<T, C>(plan.steps);
  for (int begin = 0; begin < plan.steps; begin += run) {
    C sums[kPairs] = {};
    for (int step = begin; step < min(plan.steps, begin + run); ++step) {
      columns.wait(step, 0);
      if (!columns.has(step)) continue;
      const char* at = columns.at(step);
      MmdPacket<T> packets[kParticles];
#pragma unroll
      for (int i = 0; i < kParticles; ++i) packets[i] = columns.row(at, i);
#pragma unroll
      for (int e = 0; e < kMmdCount<T>; ++e) {
        C p[kParticles];
#pragma unroll
        for (int i = 0; i < kParticles; ++i) p[i] = mmdElement<C, T>(packets[i], e);
        int pair = 0;
#pragma unroll
        for (int i = 0; i < kParticles; ++i) {
#pragma unroll
          for (int j = i + 1; j < kParticles; ++j, ++pair) {
            const C difference = p[i] - p[j];
            sums[pair] = ::fma(difference, difference, sums[pair]);
          }
        }
      }
    }
    join(sums, [&](int pair, double sum) { squares[pair] = begin == 0 ? sum : squares[pair] + sum; });
  }
}

// One step's part of a tile: the kTile particles from i on with those from j on. Beyond the last particle, the last
// one.
template <int kTile, bool kDiagonal, bool kTangent, class C, class T>
__device__ __forceinline__ void mmdAddTile(const MmdColumns<T>& columns, const char* at, int i, int j, int particles,
                                           C (&sums)[kTile * kTile], C (&tangents)[kTangent ? kTile * kTile : 1]) {
  MmdPacket<T> p[kTile], tp[kTangent ? kTile : 1];
#pragma unroll
  for (int r = 0; r < kTile; ++r) {
    const int row = min(i + r, particles - 1);
    p[r] = columns.row(at, row);
    if constexpr (kTangent) tp[r] = columns.row(at, particles + row);
  }
#pragma unroll
  for (int k = kDiagonal ? 1 : 0; k < kTile; ++k) {
    MmdPacket<T> q, tq;
    if constexpr (kDiagonal) {
      q = p[k];
      if constexpr (kTangent) tq = tp[k];
    } else {
      const int row = min(j + k, particles - 1);
      q = columns.row(at, row);
      if constexpr (kTangent) tq = columns.row(at, particles + row);
    }
#pragma unroll
    for (int e = 0; e < kMmdCount<T>; ++e) {
      const C other = mmdElement<C, T>(q, e);
#pragma unroll
      for (int r = 0; r < (kDiagonal ? k : kTile); ++r) {
        const C difference = mmdElement<C, T>(p[r], e) - other;
        C& sum = sums[r * kTile + k];
        sum = ::fma(difference, difference, sum);
        if constexpr (kTangent) {
          C& tangent = tangents[r * kTile + k];
          tangent = ::fma(difference, mmdElement<C, T>(tp[r], e) - mmdElement<C, T>(tq, e), tangent);
        }
      }
    }
  }
}

// Any number of particles. Where kRelease, steps are released as soon as the last tile has read them: there must be
// room for all steps of a unit unless one tile is all. `tangents` gets the sums of (p_i − p_j)·(tp_i − tp_j).
template <bool kTangent, bool kRelease, class C, class T, class Join>
__device__ __forceinline__ void mmdMeasureMany(MmdColumns<T>& columns, const MmdPlan& plan, double* squares,
                                               double* tangents, Join& join) {
  constexpr int kTile = kMmdTile<T, C, kTangent>;
  const int particles = plan.particles(), run = mmdRunSteps<T, C>(plan.steps);
  for (int i = 0; i < particles; i += kTile) {
    for (int j = i; j < particles; j += kTile) {
      const bool first = j == 0, last = i + kTile >= particles;
      for (int begin = 0; begin < plan.steps; begin += run) {
        C sums[kTile * kTile] = {}, tangentSums[kTangent ? kTile * kTile : 1] = {};
        for (int step = begin; step < min(plan.steps, begin + run); ++step) {
          if (first) columns.wait(step, kRelease && last ? step : 0);
          if (columns.has(step)) {
            const char* at = columns.at(step);
            if (i == j)
              mmdAddTile<kTile, true, kTangent, C, T>(columns, at, i, j, particles, sums, tangentSums);
            else
              mmdAddTile<kTile, false, kTangent, C, T>(columns, at, i, j, particles, sums, tangentSums);
          }
          if (kRelease && last) columns.release();
        }
        const auto put = [&](double* totals, int at, double sum) {
          const int p = i + at / kTile, q = j + at % kTile;
          if (p >= q || q >= particles) return;
          double& total = totals[mmdPair(p, q, particles)];
          total = begin == 0 ? sum : total + sum;
        };
        join(sums, [&](int at, double sum) { put(squares, at, sum); });
        if constexpr (kTangent) join(tangentSums, [&](int at, double sum) { put(tangents, at, sum); });
      }
    }
  }
}

}  // namespace flowmap::cuda
