// Gradients of one set of particles from what the block keeps of the unit: out_i = Σ_j own_ji (s_i − s_j) + Σ_j
// other_ji (lead − o_j), where s are the set's particles, o the other's, and lead is s_i, or s_j where coefficients are
// `paired`.
#pragma once

#include "cuda/mmd_distances.cuh"

namespace flowmap::cuda {

// kEach particles in either set: coefficients in registers.
template <int kEach, bool kPaired, class C, class T>
__device__ __forceinline__ void mmdSweepFew(MmdColumns<T>& columns, const MmdPlan& plan, int set, const C* coefficients,
                                            T* gradient, bool release) {
  constexpr int kPadded = mmdPadded(kEach);
  C own[kEach][kEach], other[kEach][kEach];  // [source][row]
#pragma unroll
  for (int j = 0; j < kEach; ++j) {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      own[j][i] = coefficients[j * kPadded + i];
      other[j][i] = coefficients[(kEach + j) * kPadded + i];
    }
  }
  const int first = set == 0 ? 0 : kEach;
  for (int step = 0; step < plan.steps; ++step) {
    if (columns.has(step)) {
      const char* at = columns.at(step);
      MmdPacket<T> mine[kEach], theirs[kEach], results[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        mine[i] = columns.row(at, first + i);
        theirs[i] = columns.row(at, kEach - first + i);
      }
#pragma unroll
      for (int e = 0; e < kMmdCount<T>; ++e) {
        C s[kEach], o[kEach], sums[kEach] = {};
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
          s[i] = mmdElement<C, T>(mine[i], e);
          o[i] = mmdElement<C, T>(theirs[i], e);
        }
#pragma unroll
        for (int i = 0; i < kEach; ++i) {
#pragma unroll
          for (int j = i + 1; j < kEach; ++j) {
            const C difference = s[i] - s[j];
            sums[i] = ::fma(own[j][i], difference, sums[i]);
            sums[j] = ::fma(own[i][j], -difference, sums[j]);
          }
        }
#pragma unroll
        for (int j = 0; j < kEach; ++j) {
          const C apart = s[j] - o[j];
#pragma unroll
          for (int i = 0; i < kEach; ++i) sums[i] = ::fma(other[j][i], kPaired ? apart : s[i] - o[j], sums[i]);
        }
#pragma unroll
        for (int i = 0; i < kEach; ++i) results[i].at[e] = static_cast<T>(static_cast<Compute<T>>(sums[i]));
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i) columns.store(gradient, kEach, i, step, results[i]);
    }
    if (release) columns.release();
  }
}

// Adds what rows feel of one source, at `from` or, where paired, at the distance from it to `lead`.
template <int kRows, class C, class T>
__device__ __forceinline__ void mmdFeel(C (&sums)[kRows][kMmdCount<T>], const MmdPacket<T> (&rows)[kRows],
                                        const MmdPacket<T>& from, const MmdPacket<T>* lead, const C* coefficients) {
  constexpr int kLoad = kPacketBytes / sizeof(C);
  C factors[kRows];
#pragma unroll
  for (int r = 0; r < kRows; r += kLoad) {
    const auto packet = *reinterpret_cast<const Packet<C, kLoad>*>(coefficients + r);
#pragma unroll
    for (int i = 0; i < kLoad; ++i) factors[r + i] = packet.at[i];
  }
#pragma unroll
  for (int e = 0; e < kMmdCount<T>; ++e) {
    const C source = mmdElement<C, T>(from, e);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const C to = lead ? mmdElement<C, T>(*lead, e) : mmdElement<C, T>(rows[r], e);
      sums[r][e] = ::fma(factors[r], to - source, sums[r][e]);
    }
  }
}

// One step of any number of particles.
template <class C, class T>
__device__ __forceinline__ void mmdSweepStep(const MmdColumns<T>& columns, const MmdPlan& plan, int step, int set,
                                             bool paired, const C* coefficients, T* gradient) {
  constexpr int kRows = 4;
  const int count = set == 0 ? plan.m : plan.n, others = set == 0 ? plan.n : plan.m, padded = mmdPadded(count);
  const int firstOwn = set == 0 ? 0 : plan.m, firstOther = set == 0 ? plan.m : 0;
  const char* at = columns.at(step);
  for (int begin = 0; begin < count; begin += kRows) {
    MmdPacket<T> rows[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) rows[r] = columns.row(at, firstOwn + min(begin + r, count - 1));
    C sums[kRows][kMmdCount<T>] = {};
    for (int j = 0; j < count; ++j) {
      mmdFeel<kRows, C, T>(sums, rows, columns.row(at, firstOwn + j), nullptr, coefficients + j * padded + begin);
    }
    if (paired) {
      for (int j = 0; j < others; ++j) {
        const MmdPacket<T> lead = columns.row(at, firstOwn + j);
        mmdFeel<kRows, C, T>(sums, rows, columns.row(at, firstOther + j), &lead,
                             coefficients + (count + j) * padded + begin);
      }
    } else {
      for (int j = 0; j < others; ++j) {
        mmdFeel<kRows, C, T>(sums, rows, columns.row(at, firstOther + j), nullptr,
                             coefficients + (count + j) * padded + begin);
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (begin + r >= count) break;
      MmdPacket<T> result;
#pragma unroll
      for (int e = 0; e < kMmdCount<T>; ++e) result.at[e] = static_cast<T>(static_cast<Compute<T>>(sums[r][e]));
      columns.store(gradient, count, begin + r, step, result);
    }
  }
}

}  // namespace flowmap::cuda
