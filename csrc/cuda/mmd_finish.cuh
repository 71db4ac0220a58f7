// From the squared distances of a group to its value, its tangent, and the coefficients of its gradients: kernels less
// one, in double, so that the ones cancel and small differences of distances keep their digits.
#pragma once

#include <cmath>

#include "cuda/mmd_join.cuh"

namespace flowmap::cuda {

constexpr int kMmdTotals = 10;

struct MmdValueSlope {
  double value, slope;
};

// The kernel less one (the kernel for 'energy'), and its derivative by the distance over the distance, which is zero
// where the distance is at most eps. A square that is not finite gives NaN.
__device__ __forceinline__ MmdValueSlope mmdKernelAt(const MmdFormula& formula, double given, double weight) {
  if (!(given < static_cast<double>(INFINITY))) given = static_cast<double>(NAN);
  const double root0 = ::sqrt(given);
  const bool near = root0 <= formula.eps;  // false for NaN
  const double root = near ? formula.eps : root0, square = near ? formula.eps * formula.eps : given;
  double value = 0, slope = 0;
  for (int i = 0; i < formula.bandwidths; ++i) {
    const double scale = i < MmdFormula::kScales ? formula.scales[i] : formula.more[i - MmdFormula::kScales];
    const double rate = -weight * scale;
    switch (formula.kernel) {
      case MmdKernel::Laplace: {
        const double at = ::expm1(rate * root);
        value += at;
        slope += rate * (at + 1);
        break;
      }
      case MmdKernel::Rbf: {
        const double at = ::expm1(0.5 * rate * square);
        value += at;
        slope += rate * (at + 1);
        break;
      }
      case MmdKernel::Imq: {
        const double s = -rate * square, q = 1 + s, r = ::sqrt(q);
        value -= s / (r * (1 + r));  // (1 + s)^-½ − 1 without the difference
        slope += rate / (q * r);
        break;
      }
      case MmdKernel::Energy:
        value += rate * root;
        slope += rate;
        break;
    }
  }
  if (formula.kernel == MmdKernel::Laplace || formula.kernel == MmdKernel::Energy) slope /= root;
  const double share = 1.0 / formula.bandwidths;
  return {value * share, near ? 0.0 : slope * share};
}

template <class S>
__device__ __forceinline__ double mmdGiven(const S* perGroup, int64_t group) {
  return perGroup ? static_cast<double>(perGroup[group]) : 1.0;
}

// What a group's results are multiplied with; NaN, and a fault, where a weight is not what it must be.
struct MmdWeights {
  double weight, loss;
};
template <class S>
__device__ __forceinline__ MmdWeights mmdWeights(const MmdPerGroup<S>& in, int64_t group, bool leads) {
  const double infinity = static_cast<double>(INFINITY);
  const double weight = mmdGiven(in.weight, group), loss = mmdGiven(in.lossWeight, group);
  const bool badWeight = !(weight >= 0 && weight < infinity), bad = badWeight || !(::fabs(loss) < infinity);
  if (bad && leads && threadIdx.x == 0) {
    // the position names the argument too
    raise(in.fault, FaultKind::WeightOutOfRange, in.name, __double_as_longlong(badWeight ? weight : loss),
          2 * group + (badWeight ? 0 : 1));
  }
  return {weight, bad ? static_cast<double>(NAN) : loss};
}

// Distances and slopes of the pairs of one set's particle r with j of its own, and with j of the other set.
struct MmdTriple {
  int own, cross, apart;
};
__device__ __forceinline__ MmdTriple mmdTriple(int set, int m, int n, int r, int j) {
  const int particles = m + n, first = set == 0 ? 0 : m;
  const int a = first + min(r, j), b = first + max(r, j);
  const int own = r == j ? mmdPairs(particles) : mmdPair(a, b, particles);
  const int cross = set == 0 ? mmdPair(r, m + j, particles) : mmdPair(j, m + r, particles);
  return {own, cross, mmdPair(min(j, m - 1), m + min(j, n - 1), particles)};
}

// Where particles are nearly in pairs x_j ≈ y_j, as in training, what x_i feels of x_j and of y_j nearly cancels, and
// float would lose the difference. a (x_i − x_j) + b (x_i − y_j) is (a + b) (x_i − x_j) + b (x_j − y_j) as well: the
// form with smaller terms is taken. The result has bit `set` where a set's coefficients are those of the second form.
template <class C, class Join>
__device__ __forceinline__ int mmdCoefficients(const MmdPlan& plan, const MmdGroup<C>& work, Join& join,
                                               double* totals) {
  const int m = plan.m, n = plan.n;
  int paired = 0;
  if (m == n) {
    double sizes[4] = {};  // of the terms, first and second form of x, then of y
#pragma unroll
    for (int set = 0; set < 2; ++set) {
      if (!work.coefficients[set]) continue;
      for (int i = threadIdx.x; i < m * m; i += static_cast<int>(blockDim.x)) {
        const auto [own, cross, apart] = mmdTriple(set, m, n, i % m, i / m);
        const double a = work.slopes[own], b = work.slopes[cross];
        sizes[2 * set] += ::fabs(a) * work.squares[own] + ::fabs(b) * work.squares[cross];
        sizes[2 * set + 1] += ::fabs(a + b) * work.squares[own] + ::fabs(b) * work.squares[apart];
      }
    }
    join(sizes, [&](int i, double size) { totals[i] = size; });
    __syncthreads();
    paired = (totals[1] < totals[0] ? 1 : 0) | (totals[3] < totals[2] ? 2 : 0);
  }
#pragma unroll
  for (int set = 0; set < 2; ++set) {
    C* coefficients = work.coefficients[set];
    if (!coefficients) continue;
    const int count = set == 0 ? m : n, others = set == 0 ? n : m, padded = mmdPadded(count);
    const bool second = paired & (1 << set);
    for (int i = threadIdx.x; i < (count + others) * padded; i += static_cast<int>(blockDim.x)) {
      const int source = i / padded, r = i % padded;
      double coefficient = 0;
      if (r < count) {
        const auto [own, cross, apart] = mmdTriple(set, m, n, r, source < count ? source : source - count);
        if (source >= count)
          coefficient = work.slopes[cross];
        else
          coefficient = second ? work.slopes[own] + work.slopes[cross] : work.slopes[own];
      }
      coefficients[i] = static_cast<C>(coefficient);
    }
  }
  __syncthreads();
  return paired;
}

// All threads of the block must come, after a barrier behind the last write to the squares. Where there are
// coefficients, all of them can be read on return; the result is that of mmdCoefficients. `totals` has room for
// kMmdTotals. Of blocks that share a group, one `leads` and tells its value.
template <class S, class C, class Join>
__device__ __forceinline__ int mmdFinish(const MmdPlan& plan, const MmdFormula& formula, const MmdPerGroup<S>& perGroup,
                                         int64_t group, const MmdGroup<C>& work, Join& join, double* totals,
                                         bool leads = true) {
  const auto [weight, loss] = mmdWeights(perGroup, group, leads);
  const double m = plan.m, n = plan.n, across = 1 / (m * n);
  const double ofX = 1 / (formula.unbiased ? m * (m - 1) : m * m), ofY = 1 / (formula.unbiased ? n * (n - 1) : n * n);
  const double cotangent = loss * mmdGiven(perGroup.g, group);
  const int particles = plan.particles(), pairs = mmdPairs(particles);
  double sums[5] = {};  // pairs of x, of y, of both, a particle with itself; the tangent
  for (int at = threadIdx.x; at <= pairs; at += static_cast<int>(blockDim.x)) {
    int i = 0, j = at;  // one more than the pairs: i + 1 = particles
    while (i + 1 < particles && j >= particles - 1 - i) j -= particles - 1 - i++;
    j += i + 1;
    const double square = at < pairs ? work.squares[at] : 0.0;
    const auto [value, slope] = mmdKernelAt(formula, square, weight);
    const int kind = at == pairs ? 3 : j < plan.m ? 0 : i < plan.m ? 2 : 1;
#pragma unroll
    for (int k = 0; k < 4; ++k) sums[k] += k == kind ? value : 0.0;
    const double scaled = 2 * (kind == 0 ? ofX : kind == 1 ? ofY : -across) * slope;
    if (work.tangents && at < pairs) sums[4] += scaled * work.tangents[at];
    if (work.slopes) {
      work.slopes[at] = at < pairs ? cotangent * scaled : 0.0;
      work.squares[at] = ::sqrt(square);
    }
  }
  join(sums, [&](int i, double sum) { totals[i] = sum; });
  __syncthreads();
  if (leads && threadIdx.x == 0) {
    const double self = formula.unbiased ? 0.0 : totals[3];
    const double value = ofX * (2 * totals[0] + m * self) + ofY * (2 * totals[1] + n * self) - 2 * across * totals[2];
    perGroup.value[group] = static_cast<S>(loss * value);
    if (perGroup.tangent) perGroup.tangent[group] = static_cast<S>(loss * totals[4]);
  }
  if (!work.slopes) return 0;
  return mmdCoefficients(plan, work, join, totals + 5);
}

}  // namespace flowmap::cuda
