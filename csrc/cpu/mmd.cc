// The maximum mean discrepancy over groups. Features are cut into slices that stay in the first-level cache; where
// groups are few, ranges of slices are tasks of their own. Both cuts depend on the shape alone, and sums are added in
// order.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "core/dispatch.h"
#include "cpu/backend.h"
#include "cpu/convert.h"
#include "cpu/mmd_tiles.h"
#include "cpu/parallel.h"

namespace flowmap::cpu {
namespace {

constexpr int64_t kSliceBytes = 16384;  // of all particles' rows: half of a first-level cache
constexpr int64_t kLeastSlice = 128;    // features; fewer would add up partial sums more often than is cheap
constexpr int64_t kTasks = 64;          // groups are split where there are fewer
constexpr int64_t kLeastRange = 2048;   // features a split takes at least
constexpr int64_t kParallelPairs = 2 * kParallelElements;  // pairs times features below which one thread is quicker

struct Results {
  Tensor value, tangent, gx, gy;
};

struct Directions {
  Tensor tx, ty, g;
};

void checkPerGroup(const char* argument, const Tensor& t, double least) {
  if (!t) return;
  dispatchFloating(t.dtype(), [&]<class T>() {
    for (int64_t group = 0; group < t.numel(); ++group) {
      const double value = static_cast<double>(static_cast<Compute<T>>(t.data<T>()[group]));
      if (std::isfinite(value) && value >= least) continue;
      fail(ErrorCode::Argument, "mmd", argument, " must be finite", least == 0 ? " and at least 0" : "", ", got ",
           value, " for group ", group);
    }
  });
}

double perGroup(const Tensor& t, int64_t group) {
  if (!t) return 1;
  return t.dtype() == DType::Float64 ? t.data<double>()[group] : static_cast<double>(t.data<float>()[group]);
}

void setPerGroup(const Tensor& t, int64_t group, double value) {
  if (!t) return;
  if (t.dtype() == DType::Float64)
    t.data<double>()[group] = value;
  else
    t.data<float>()[group] = static_cast<float>(value);
}

int64_t roundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// T is how particles are stored, R how the arithmetic reads them.
template <class T>
class Mmd {
 public:
  using R = Compute<T>;

  Mmd(const MmdOptions& options, const Results& out, const MmdOperands& in, const Directions& along)
      : options_(options),
        out_(out),
        in_(in),
        along_(along),
        groups_(in.x.shape()[0]),
        m_(in.x.shape()[1]),
        n_(in.y.shape()[1]),
        particles_(m_ + n_),
        dim_(in.x.shape()[2]),
        pairs_(mmdPairs(particles_)),
        padded_(roundUp(pairs_ + kMmdPadding, kMmdLanes)),
        slice_(std::min(roundUp(dim_, kMmdStep),
                        std::max(kLeastSlice, kSliceBytes / (particles_ * static_cast<int64_t>(sizeof(R))) / 64 * 64))),
        moving_(along.tx || along.ty) {
    const int64_t most = std::max<int64_t>(1, dim_ / kLeastRange);
    ranges_ = groups_ == 0 ? 1 : std::clamp<int64_t>((kTasks + groups_ - 1) / groups_, 1, most);
    rangeSize_ = roundUp((dim_ + ranges_ - 1) / ranges_, slice_);
    ranges_ = (dim_ + rangeSize_ - 1) / rangeSize_;
  }

  void run() {
    checkPerGroup("weight", in_.weight, 0);
    checkPerGroup("lossWeight", in_.lossWeight, -INFINITY);
    if (groups_ == 0) return;
    const int64_t threads = omp_get_max_threads(), shared = ranges_ > 1 ? groups_ : 0;
    // A thread's: lanes of the pairs' sums, those of the tangents', sums and kernel values, coefficients. Where ranges
    // of one group are different tasks: sums of each task, coefficients of each group.
    const int64_t lanes = pairs_ * kMmdLanes, sums = 2 * padded_;
    const int64_t coefficients = roundUp(particles_ * particles_, kMmdLanes);
    const int64_t own = (moving_ ? 2 : 1) * lanes + sums + 2 * padded_ + coefficients;
    Tensor workspace = scratch({threads * own + shared * (ranges_ * sums + coefficients)}, DType::Float64);
    double* base = workspace.data<double>();
    double* taskSums = base + threads * own;
    double* groupCoefficients = taskSums + shared * ranges_ * sums;
    // Slices that are not whole steps of the particles' own storage: P rows, P tangents' rows or results, a row of
    // zeros.
    const int64_t rows = (2 * particles_ + 1) * slice_;
    Tensor buffers = scratch({threads * rows}, DTypeOf<R>::value);
    const auto threadOf = [&] {
      const int64_t thread = omp_get_thread_num();
      double* at = base + thread * own;
      double* sumsAt = at + (moving_ ? 2 : 1) * lanes;
      return Scratch{at,
                     moving_ ? at + lanes : nullptr,
                     sumsAt,
                     sumsAt + sums,
                     sumsAt + sums + 2 * padded_,
                     buffers.data<R>() + thread * rows};
    };
    const bool parallel = groups_ * pairs_ >= kParallelPairs / dim_;
    if (ranges_ == 1) {
      parallelFor(groups_, parallel, 1, [&](int64_t begin, int64_t end) {
        const Scratch s = threadOf();
        for (int64_t group = begin; group < end; ++group) {
          measure(group, 0, s, s.sums);
          finish(group, s, s.sums, s.coefficients);
          sweep(group, 0, s, s.coefficients);
        }
      });
      return;
    }
    parallelFor(groups_ * ranges_, parallel, 1, [&](int64_t begin, int64_t end) {
      const Scratch s = threadOf();
      for (int64_t task = begin; task < end; ++task) measure(task / ranges_, task % ranges_, s, taskSums + task * sums);
    });
    parallelFor(groups_, false, 1, [&](int64_t begin, int64_t end) {
      for (int64_t group = begin; group < end; ++group) {
        double* total = taskSums + group * ranges_ * sums;
        for (int64_t range = 1; range < ranges_; ++range) {
          for (int64_t i = 0; i < sums; ++i) total[i] += total[range * sums + i];
        }
        finish(group, threadOf(), total, groupCoefficients + group * coefficients);
      }
    });
    if (!out_.gx && !out_.gy) return;
    parallelFor(groups_ * ranges_, parallel, 1, [&](int64_t begin, int64_t end) {
      const Scratch s = threadOf();
      for (int64_t task = begin; task < end; ++task)
        sweep(task / ranges_, task % ranges_, s, groupCoefficients + task / ranges_ * coefficients);
    });
  }

 private:
  struct Scratch {
    double *lanes, *tangentLanes, *sums, *values, *coefficients;
    R* rows;
  };

  static constexpr int64_t kMostRows = 2 * kMaxMmdParticles;

  Tensor scratch(const Shape& shape, DType dtype) const {
    Tensor workspace = Tensor::empty(in_.x.device(), shape, dtype);
    workspace.storage()->materialize();
    return workspace;
  }

  // Row i of a pair of tensors, x's before y's; null where the tensor is absent.
  T* rowOf(const Tensor& x, const Tensor& y, int64_t group, int64_t i) const {
    const Tensor& t = i < m_ ? x : y;
    return t ? t.data<T>() + (i < m_ ? group * m_ + i : group * n_ + i - m_) * dim_ : nullptr;
  }

  static bool isDirect(int64_t n) { return std::is_same_v<T, R> && n % kMmdStep == 0; }

  // Points rows at features [at, at + n): of the tensors themselves, or of copies in `buffer`, filled up with zeros.
  void view(const Tensor& x, const Tensor& y, int64_t group, int64_t at, int64_t n, R* buffer, const R* zeros,
            const R** rows) const {
    for (int64_t i = 0; i < particles_; ++i) {
      const T* row = rowOf(x, y, group, i);
      if (!row) {
        rows[i] = zeros;
        continue;
      }
      if constexpr (std::is_same_v<T, R>) {
        if (isDirect(n)) {
          rows[i] = row + at;
          continue;
        }
        std::copy_n(row + at, n, buffer + i * slice_);
      } else {
        toFloatRun(buffer + i * slice_, row + at, n);
      }
      std::fill(buffer + i * slice_ + n, buffer + i * slice_ + roundUp(n, kMmdStep), R(0));
      rows[i] = buffer + i * slice_;
    }
  }

  // Squared distances of all pairs over one range, and their tangents' halves.
  void measure(int64_t group, int64_t range, const Scratch& s, double* sums) const {
    std::fill_n(s.lanes, (moving_ ? 2 : 1) * pairs_ * kMmdLanes, 0.0);
    R* zeros = s.rows + 2 * particles_ * slice_;
    if (moving_) std::fill_n(zeros, slice_, R(0));
    const R *rows[kMostRows], *tangents[kMostRows];
    const int64_t end = std::min(dim_, (range + 1) * rangeSize_);
    for (int64_t at = range * rangeSize_; at < end; at += slice_) {
      const int64_t n = std::min(slice_, end - at);
      view(in_.x, in_.y, group, at, n, s.rows, nullptr, rows);
      if (moving_) view(along_.tx, along_.ty, group, at, n, s.rows + particles_ * slice_, zeros, tangents);
      mmdDistances(particles_, roundUp(n, kMmdStep), rows, moving_ ? tangents : nullptr, s.lanes, s.tangentLanes);
    }
    mmdSumLanes(pairs_, s.lanes, sums);
    std::fill_n(sums + pairs_, padded_ - pairs_, 0.0);
    if (moving_)
      mmdSumLanes(pairs_, s.tangentLanes, sums + padded_);
    else
      std::fill_n(sums + padded_, pairs_, 0.0);
    std::fill_n(sums + padded_ + pairs_, padded_ - pairs_, 0.0);
  }

  // Value and tangent of a group from its distances, and coefficients [P, P] of the differences in its gradient.
  void finish(int64_t group, const Scratch& s, const double* sums, double* coefficients) const {
    double *values = s.values, *slopes = s.values + padded_;
    // One more than the pairs: a particle with itself, at distance 0.
    mmdKernelValues(options_, perGroup(in_.weight, group), dim_, pairs_ + 1, sums, values, slopes);
    const double m = static_cast<double>(m_), n = static_cast<double>(n_);
    const double ofX = 1 / (options_.unbiased ? m * (m - 1) : m * m),
                 ofY = 1 / (options_.unbiased ? n * (n - 1) : n * n);
    const double across = 1 / (m * n), loss = perGroup(in_.lossWeight, group);
    const double cotangent = loss * perGroup(along_.g, group);
    double sumX = 0, sumY = 0, sumXY = 0, tangent = 0;
    for (int64_t i = 0, pair = 0; i < particles_; ++i) {
      coefficients[i * particles_ + i] = 0;
      for (int64_t j = i + 1; j < particles_; ++j, ++pair) {
        (j < m_ ? sumX : i < m_ ? sumXY : sumY) += values[pair];
        const double slope = 2 * (j < m_ ? ofX : i < m_ ? -across : ofY) * slopes[pair];
        tangent += slope * sums[padded_ + pair];
        coefficients[i * particles_ + j] = coefficients[j * particles_ + i] = cotangent * slope;
      }
    }
    const double self = options_.unbiased ? 0 : values[pairs_];
    const double value = ofX * (2 * sumX + m * self) + ofY * (2 * sumY + n * self) - 2 * across * sumXY;
    setPerGroup(out_.value, group, loss * value);
    setPerGroup(out_.tangent, group, loss * tangent);
  }

  void sweep(int64_t group, int64_t range, const Scratch& s, const double* coefficients) const {
    if (!out_.gx && !out_.gy) return;
    const int64_t first = out_.gx ? 0 : m_, count = (out_.gx ? m_ : 0) + (out_.gy ? n_ : 0);
    const R* rows[kMostRows];
    R* results[kMostRows];
    const int64_t end = std::min(dim_, (range + 1) * rangeSize_);
    for (int64_t at = range * rangeSize_; at < end; at += slice_) {
      const int64_t n = std::min(slice_, end - at);
      view(in_.x, in_.y, group, at, n, s.rows, nullptr, rows);
      for (int64_t i = 0; i < count; ++i) {
        if constexpr (std::is_same_v<T, R>) {
          if (isDirect(n)) {
            results[i] = rowOf(out_.gx, out_.gy, group, first + i) + at;
            continue;
          }
        }
        results[i] = s.rows + (particles_ + i) * slice_;
      }
      mmdSweep(particles_, roundUp(n, kMmdStep), rows, first, count, coefficients, results);
      if (isDirect(n)) continue;
      for (int64_t i = 0; i < count; ++i) {
        T* row = rowOf(out_.gx, out_.gy, group, first + i) + at;
        if constexpr (std::is_same_v<T, R>)
          std::copy_n(results[i], n, row);
        else
          fromFloatRun(row, results[i], n);
      }
    }
  }

  const MmdOptions& options_;
  const Results& out_;
  const MmdOperands& in_;
  const Directions& along_;
  const int64_t groups_, m_, n_, particles_, dim_, pairs_, padded_, slice_;
  const bool moving_;
  int64_t ranges_ = 1, rangeSize_ = 0;
};

void runMmd(const MmdOptions& options, const Results& out, const MmdOperands& in, const Directions& along) {
  dispatchFloating(in.x.dtype(), [&]<class T>() { Mmd<T>(options, out, in, along).run(); });
}

}  // namespace

void CpuBackend::mmd(const MmdOptions& options, const Tensor& value, const Tensor& tangent, const MmdOperands& in,
                     const Tensor& tx, const Tensor& ty) {
  runMmd(options, {value, tangent, {}, {}}, in, {tx, ty, {}});
}

void CpuBackend::mmdVjp(const MmdOptions& options, const Tensor& value, const Tensor& gx, const Tensor& gy,
                        const MmdOperands& in, const Tensor& g) {
  runMmd(options, {value, {}, gx, gy}, in, {{}, {}, g});
}

}  // namespace flowmap::cpu
