// Gradients of one set of particles from what the block keeps of the unit: out_i = Σ_j own_ji (s_i − s_j) + Σ_j
// other_ji (lead − o_j), where s are the set's particles, o the other's, and lead is s_i, or s_j where coefficients are
// `paired`.
#pragma once

#include "cuda/mmd_distances.cuh"

namespace flowmap::cuda {

// Coefficients of kRows rows from `first` on.
template <int kEach, int kRows, class C>
struct MmdFactors {
  C own[kEach][kRows], other[kEach][kRows];  // [source][row]

  __device__ __forceinline__ void load(const C* coefficients, int first) {
    constexpr int kPadded = mmdPadded(kEach);
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        own[j][r] = coefficients[j * kPadded + first + r];
        other[j][r] = coefficients[(kEach + j) * kPadded + first + r];
      }
    }
  }
};

template <int kFirst, bool kPaired, int kEach, int kRows, class C, class T>
__device__ __forceinline__ void mmdSweepRows(const MmdFactors<kEach, kRows, C>& factors,
                                             const MmdPacket<T> (&mine)[kEach], const MmdPacket<T> (&theirs)[kEach],
                                             MmdPacket<T> (&results)[kRows]) {
#pragma unroll
  for (int e = 0; e < kMmdCount<T>; ++e) {
    C s[kEach], o[kEach], sums[kRows] = {};
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
        const int ofI = i - kFirst, ofJ = j - kFirst;
        if (ofI >= 0 && ofI < kRows) sums[ofI] = ::fma(factors.own[j][ofI], difference, sums[ofI]);
        if (ofJ >= 0 && ofJ < kRows) sums[ofJ] = ::fma(factors.own[i][ofJ], -difference, sums[ofJ]);
      }
    }
#pragma unroll
    for (int j = 0; j < kEach; ++j) {
      const C apart = s[j] - o[j];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        sums[r] = ::fma(factors.other[j][r], kPaired ? apart : s[kFirst + r] - o[j], sums[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) results[r].at[e] = static_cast<T>(static_cast<Compute<T>>(sums[r]));
  }
}

// kEach particles in either set, coefficients in registers: in double those of two rows at a time, loaded for each
// step. Without a gradient, steps are released and nothing else.
template <int kEach, class C, class T>
__device__ __forceinline__ void mmdSweepFew(MmdColumns<T>& columns, const MmdPlan& plan, int set, bool paired,
                                            const C* coefficients, T* gradient, bool release) {
  constexpr int kRows = sizeof(C) == 8 && kEach > 2 ? 2 : kEach;
  MmdFactors<kEach, kRows, C> factors{};
  if (kRows == kEach && gradient) factors.load(coefficients, 0);
  const int first = set == 0 ? 0 : kEach;
#pragma unroll 1
  for (int step = 0; step < plan.steps; ++step) {
    if (gradient && columns.has(step)) {
      const char* at = columns.at(step);
      MmdPacket<T> mine[kEach], theirs[kEach];
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
        mine[i] = columns.row(at, first + i);
        theirs[i] = columns.row(at, kEach - first + i);
      }
      const auto rowsFrom = [&]<int kFirst>() {
        if (kRows != kEach) factors.load(coefficients, kFirst);
        MmdPacket<T> results[kRows];
        if (paired)
          mmdSweepRows<kFirst, true, kEach, kRows, C, T>(factors, mine, theirs, results);
        else
          mmdSweepRows<kFirst, false, kEach, kRows, C, T>(factors, mine, theirs, results);
#pragma unroll
        for (int r = 0; r < kRows; ++r) columns.store(gradient, kEach, kFirst + r, step, results[r]);
      };
      rowsFrom.template operator()<0>();
      if constexpr (kRows != kEach) rowsFrom.template operator()<kRows>();
    }
    if (release) columns.release();
  }
}

// Adds what rows feel of one source, at `from` or, where paired, at the distance from it to `lead`.
template <int kRows, bool kPaired, class C, class T>
__device__ __forceinline__ void mmdFeel(C (&sums)[kRows][kMmdCount<T>], const MmdPacket<T> (&rows)[kRows],
                                        const MmdPacket<T>& from, const MmdPacket<T>& lead, const C* coefficients) {
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
      const C to = kPaired ? mmdElement<C, T>(lead, e) : mmdElement<C, T>(rows[r], e);
      sums[r][e] = ::fma(factors[r], to - source, sums[r][e]);
    }
  }
}

// One step of any numbers of particles, both sets.
template <class C, class T>
__device__ __forceinline__ void mmdSweepStep(const MmdColumns<T>& columns, const MmdPlan& plan, int step, int paired,
                                             C* const (&coefficients)[2], const MmdRows<T>& rows) {
  constexpr int kRows = 4;
  const char* at = columns.at(step);
#pragma unroll 1
  for (int set = 0; set < 2; ++set) {
    T* gradient = set == 0 ? rows.gx : rows.gy;
    if (!gradient) continue;
    const int count = set == 0 ? plan.m : plan.n, others = set == 0 ? plan.n : plan.m, padded = mmdPadded(count);
    const int firstOwn = set == 0 ? 0 : plan.m, firstOther = set == 0 ? plan.m : 0;
    const bool pairs = paired & (1 << set);
    const C* factors = set == 0 ? coefficients[0] : coefficients[1];
#pragma unroll 1
    for (int begin = 0; begin < count; begin += kRows) {
      MmdPacket<T> to[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) to[r] = columns.row(at, firstOwn + min(begin + r, count - 1));
      C sums[kRows][kMmdCount<T>] = {};
#pragma unroll 1
      for (int j = 0; j < count + others; ++j) {
        const MmdPacket<T> from = columns.row(at, j < count ? firstOwn + j : firstOther + j - count);
        const C* coefficient = factors + j * padded + begin;
        if (pairs && j >= count)
          mmdFeel<kRows, true, C, T>(sums, to, from, columns.row(at, firstOwn + j - count), coefficient);
        else
          mmdFeel<kRows, false, C, T>(sums, to, from, from, coefficient);
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
}

}  // namespace flowmap::cuda
