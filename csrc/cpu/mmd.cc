// The maximum mean discrepancy over groups. Features are cut into slices that stay in the first-level cache; where
// groups are few, ranges of slices are tasks of their own. Both cuts depend on the shape alone, and sums are added in
// order.
#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include "core/dispatch.h"
#include "cpu/backend.h"
#include "cpu/convert.h"
#include "cpu/mmd_four.h"
#include "cpu/mmd_tiles.h"
#include "cpu/parallel.h"
#include "cpu/streaming.h"

namespace flowmap::cpu {
namespace {

// Chunks added up in float before they go to sums in double: few, so that rounding errors stay far below those of the
// inputs.
constexpr int64_t kSliceChunks = 8;
// Of each row, between what is computed and what is fetched.
constexpr int64_t kAheadBytes = 2048;
// Of a group's packed particles that are kept for the gradient: half of a second-level cache.
constexpr int64_t kKeptBytes = 512 << 10;
// Features below which rounding errors of float do not average out: arithmetic is in double.
constexpr int64_t kFewFeatures = 1024;
// Groups are split where there are fewer than this, into ranges of at least so many features.
constexpr int64_t kTasks = 64, kLeastRange = 2048;
// Pairs times features below which one thread is quicker.
constexpr int64_t kParallelPairs = 2 * kParallelElements;

struct Results {
  Tensor value, tangent, gx, gy;
};

struct Directions {
  Tensor tx, ty, g;
};

double perGroup(const Tensor& t, int64_t group) {
  if (!t) return 1;
  return t.dtype() == DType::Float64 ? t.data<double>()[group] : static_cast<double>(t.data<float>()[group]);
}

void checkPerGroup(const char* argument, const Tensor& t, double least) {
  const int64_t groups = t ? t.numel() : 0;
  for (int64_t group = 0; group < groups; ++group) {
    const double value = perGroup(t, group);
    if (std::isfinite(value) && value >= least) continue;
    fail(ErrorCode::Argument, "mmd", argument, " must be finite", least == 0 ? " and at least 0" : "", ", got ", value,
         " for group ", group);
  }
}

void setPerGroup(const Tensor& t, int64_t group, double value) {
  if (!t) return;
  if (t.dtype() == DType::Float64)
    t.data<double>()[group] = value;
  else
    t.data<float>()[group] = static_cast<float>(value);
}

int64_t roundUp(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// T is how particles are stored, C what the arithmetic is done in.
template <class T, class C>
class Mmd {
 public:
  using Wide = Compute<T>;

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
        slice_(std::min(kSliceChunks * kChunk, roundUp(dim_, kChunk))),
        moving_(along.tx || along.ty),
        differentiated_(out.gx || out.gy) {
    const int64_t most = std::max<int64_t>(1, dim_ / kLeastRange);
    ranges_ = groups_ == 0 ? 1 : std::clamp<int64_t>((kTasks + groups_ - 1) / groups_, 1, most);
    rangeSize_ = roundUp((dim_ + ranges_ - 1) / ranges_, slice_);
    ranges_ = (dim_ + rangeSize_ - 1) / rangeSize_;
    if constexpr (std::is_same_v<T, float> && std::is_same_v<C, float>) {
      fours_ = m_ == 4 && n_ == 4 && dim_ % kFourFeatures == 0 && !moving_ && mmdTakesFours();
    }
    const int64_t whole = roundUp(rangeSize_, kChunk) * particles_;
    kept_ = !fours_ && differentiated_ && ranges_ == 1 && whole * static_cast<int64_t>(sizeof(C)) <= kKeptBytes;
    const int64_t bytes =
        (out.gx ? static_cast<int64_t>(in.x.bytes()) : 0) + (out.gy ? static_cast<int64_t>(in.y.bytes()) : 0);
    streamed_ = bytes >= kStreamedBytes && dim_ % kChunk == 0;
    packed_ = kept_ ? whole : fours_ ? 0 : slice_ * particles_;
  }

  void run() {
    checkPerGroup("weight", in_.weight, 0);
    checkPerGroup("lossWeight", in_.lossWeight, -INFINITY);
    if (groups_ == 0) return;
    const int64_t threads = teamSize(), shared = ranges_ > 1 ? groups_ : 0;
    // Each thread's lanes of sums, sums, and kernel values; where ranges of one group are tasks, the sums of each task.
    const int64_t lanes = (moving_ ? 2 : 1) * pairs_ * kMmdLanes, sums = 2 * padded_, own = lanes + 2 * sums + padded_;
    const Tensor wide = scratch({threads * own + shared * ranges_ * sums}, DType::Float64);
    double* taskSums = wide.data<double>() + threads * own;
    // Each thread's packed particles, packed tangents or results, and coefficients; coefficients of each split group.
    const int64_t coefficients = roundUp(2 * particles_ * particles_, kChunk);
    const int64_t staged = slice_ * particles_, narrowOwn = packed_ + staged + coefficients;
    const Tensor narrow = scratch({threads * narrowOwn + shared * coefficients}, DTypeOf<C>::value);
    C* groupCoefficients = narrow.data<C>() + threads * narrowOwn;
    const Tensor rows = scratch({threads * staged}, DTypeOf<Wide>::value);
    const auto ofThread = [&] {
      const int64_t thread = teamThread();
      double* at = wide.data<double>() + thread * own;
      C* points = narrow.data<C>() + thread * narrowOwn;
      return Scratch{at,
                     moving_ ? at + pairs_ * kMmdLanes : nullptr,
                     at + lanes,
                     at + lanes + sums,
                     points,
                     points + packed_,
                     points + packed_ + staged,
                     rows.data<Wide>() + thread * staged};
    };
    const bool parallel = groups_ * pairs_ >= kParallelPairs / dim_;
    if (ranges_ == 1) {
      parallelFor(groups_, parallel, 1, [&](int64_t begin, int64_t end) {
        const Scratch s = ofThread();
        for (int64_t group = begin; group < end; ++group) {
          measure(group, 0, s, s.sums);
          finish(group, s, s.sums, s.coefficients);
          if (differentiated_) sweep(group, 0, s, s.coefficients);
        }
      });
      return;
    }
    parallelFor(groups_ * ranges_, parallel, 1, [&](int64_t begin, int64_t end) {
      const Scratch s = ofThread();
      for (int64_t task = begin; task < end; ++task) measure(task / ranges_, task % ranges_, s, taskSums + task * sums);
    });
    for (int64_t group = 0; group < groups_; ++group) {
      double* total = taskSums + group * ranges_ * sums;
      for (int64_t range = 1; range < ranges_; ++range) {
        for (int64_t i = 0; i < sums; ++i) total[i] += total[range * sums + i];
      }
      finish(group, ofThread(), total, groupCoefficients + group * coefficients);
    }
    if (!differentiated_) return;
    parallelFor(groups_ * ranges_, parallel, 1, [&](int64_t begin, int64_t end) {
      const Scratch s = ofThread();
      for (int64_t task = begin; task < end; ++task) {
        sweep(task / ranges_, task % ranges_, s, groupCoefficients + task / ranges_ * coefficients);
      }
    });
  }

 private:
  static constexpr int64_t kChunk = kMmdChunk<C>;

  struct Scratch {
    double *lanes, *tangentLanes, *sums, *values;
    C *points, *staged, *coefficients;
    Wide* rows;
  };

  // One of the two sets, as what its gradient needs sees it.
  struct Set {
    int64_t first, count;
    const Tensor& gradient;
  };
  std::array<Set, 2> sets() const { return {Set{0, m_, out_.gx}, Set{m_, n_, out_.gy}}; }

  Tensor scratch(const Shape& shape, DType dtype) const {
    Tensor workspace = Tensor::empty(in_.x.device(), shape, dtype);
    workspace.storage()->materialize();
    return workspace;
  }

  // Particle i of a pair of tensors, x's before y's; null where the tensor is absent.
  T* rowOf(const Tensor& x, const Tensor& y, int64_t group, int64_t i) const {
    const Tensor& t = i < m_ ? x : y;
    return t ? t.data<T>() + (i < m_ ? group * m_ + i : group * n_ + i - m_) * dim_ : nullptr;
  }

  // Rows of float and double are packed as they lie; 16-bit ones, and zeros for what is absent, by way of rows of
  // `wide`.
  void pack(const Tensor& x, const Tensor& y, int64_t group, int64_t at, int64_t n, Wide* wide, C* packed) const {
    const Wide* rows[2 * kMaxMmdParticles];
    for (int64_t i = 0; i < particles_; ++i) {
      const T* row = rowOf(x, y, group, i);
      Wide* copy = wide + i * slice_;
      if constexpr (sizeof(T) != 2) {
        if (row) {
          rows[i] = row + at;
          continue;
        }
      } else if (row) {
        toFloatRun(copy, row + at, n);
      }
      if (!row) std::fill_n(copy, n, Wide(0));
      rows[i] = copy;
    }
    mmdPack(particles_, n, rows, packed);
  }

  // Where the features from `at` on lie, or the next group's first; false where there are none.
  bool nextRows(int64_t group, int64_t at, const char** rows) const {
    if (at >= dim_) {
      group += 1;
      at -= roundUp(dim_, slice_);
    }
    if (at < 0 || at >= dim_ || group >= groups_) return false;
    for (int64_t i = 0; i < particles_; ++i) {
      rows[i] = reinterpret_cast<const char*>(rowOf(in_.x, in_.y, group, i) + at);
    }
    return true;
  }

  C* pointsAt(const Scratch& s, int64_t at) const { return s.points + (kept_ ? at * particles_ : 0); }

  template <class Body>
  void forSlices(int64_t range, Body body) const {
    const int64_t end = std::min(dim_, (range + 1) * rangeSize_);
    for (int64_t at = range * rangeSize_; at < end; at += slice_) body(at, std::min(slice_, end - at));
  }

  MmdFour four(int64_t group, int64_t range) const {
    const int64_t begin = range * rangeSize_, at = group * 4 * dim_ + begin;
    return {in_.x.data<float>() + at, in_.y.data<float>() + at, dim_, std::min(dim_ - begin, rangeSize_)};
  }

  // Squared distances of all pairs over one range, and their tangents' halves.
  void measure(int64_t group, int64_t range, const Scratch& s, double* sums) const {
    std::fill_n(s.lanes, (moving_ ? 2 : 1) * pairs_ * kMmdLanes, 0.0);
    if (fours_) {
      // What is measured next is the next group, or the next range of this one.
      mmdFourDistances(four(group, range), ranges_ == 1 ? 4 * dim_ : rangeSize_, s.lanes);
    } else {
      measureTiles(group, range, s);
    }
    std::fill_n(sums, 2 * padded_, 0.0);
    mmdSumLanes(pairs_, s.lanes, sums);
    if (moving_) mmdSumLanes(pairs_, s.tangentLanes, sums + padded_);
  }

  void measureTiles(int64_t group, int64_t range, const Scratch& s) const {
    forSlices(range, [&](int64_t at, int64_t n) {
      C* points = pointsAt(s, at);
      pack(in_.x, in_.y, group, at, n, s.rows, points);
      if (moving_) pack(along_.tx, along_.ty, group, at, n, s.rows, s.staged);
      const char* ahead[2 * kMaxMmdParticles];
      const bool more = nextRows(group, at + roundUp(kAheadBytes / static_cast<int64_t>(sizeof(T)), slice_), ahead);
      mmdDistances(MmdSlice<C>{particles_, (n + kChunk - 1) / kChunk, points, moving_ ? s.staged : nullptr, s.lanes,
                               s.tangentLanes, more ? ahead : nullptr, kChunk * static_cast<int64_t>(sizeof(T))});
    });
  }

  // Value and tangent of a group from its distances, and the coefficients of its gradients.
  void finish(int64_t group, const Scratch& s, const double* sums, C* coefficients) const {
    double *values = s.values, *slopes = s.values + padded_, *roots = s.values + 2 * padded_;
    // One more than the pairs: a particle with itself, at distance 0.
    mmdKernelValues(options_, perGroup(in_.weight, group), dim_, pairs_ + 1, sums, values, slopes);
    const double m = static_cast<double>(m_), n = static_cast<double>(n_);
    const double ofX = 1 / (options_.unbiased ? m * (m - 1) : m * m),
                 ofY = 1 / (options_.unbiased ? n * (n - 1) : n * n);
    const double across = 1 / (m * n), loss = perGroup(in_.lossWeight, group);
    const double cotangent = loss * perGroup(along_.g, group);
    double sumX = 0, sumY = 0, sumXY = 0, tangent = 0;
    for (int64_t i = 0, pair = 0; i < particles_; ++i) {
      for (int64_t j = i + 1; j < particles_; ++j, ++pair) {
        (j < m_ ? sumX : i < m_ ? sumXY : sumY) += values[pair];
        const double slope = 2 * (j < m_ ? ofX : i < m_ ? -across : ofY) * slopes[pair];
        tangent += slope * sums[padded_ + pair];
        slopes[pair] = cotangent * slope;
      }
    }
    const double self = options_.unbiased ? 0 : values[pairs_];
    const double value = ofX * (2 * sumX + m * self) + ofY * (2 * sumY + n * self) - 2 * across * sumXY;
    setPerGroup(out_.value, group, loss * value);
    setPerGroup(out_.tangent, group, loss * tangent);
    if (!differentiated_) return;
    for (int64_t pair = 0; pair < pairs_; ++pair) roots[pair] = std::sqrt(sums[pair]);
    slopes[pairs_] = roots[pairs_] = 0;
    for (const Set& set : sets()) {
      if (set.gradient) directOrPaired(set, slopes, roots, coefficients + (set.first > 0 ? 2 * m_ * particles_ : 0));
    }
  }

  int64_t pairOf(int64_t i, int64_t j) const {
    return i == j ? pairs_ : mmdPair(std::min(i, j), std::max(i, j), particles_);
  }

  // Coefficients [sources, count] of the differences in the gradient of one set. Where particles are nearly in pairs
  // x_j ≈ y_j, as in training, what x_i feels of x_j and of y_j nearly cancels, and float would lose the difference.
  // a (x_i − x_j) + b (x_i − y_j) is (a + b) (x_i − x_j) − b (y_j − x_j) as well: the form with smaller terms is taken.
  void directOrPaired(const Set& set, const double* slopes, const double* roots, C* coefficients) const {
    const int64_t count = set.count;
    C* pairs = coefficients + particles_ * count;
    double directSize = 0, pairedSize = 0;
    if (m_ == n_) {
      const int64_t other = set.first > 0 ? 0 : m_;
      for (int64_t j = 0; j < count; ++j) {
        const double apart = roots[mmdPair(j, m_ + j, particles_)];
        for (int64_t r = 0; r < count; ++r) {
          const int64_t own = pairOf(set.first + r, set.first + j), cross = pairOf(set.first + r, other + j);
          const double a = slopes[own], b = slopes[cross];
          directSize += std::abs(a) * roots[own] + std::abs(b) * roots[cross];
          pairedSize += std::abs(a + b) * roots[own] + std::abs(b) * apart;
          coefficients[j * count + r] = static_cast<C>(a + b);
          pairs[j * count + r] = static_cast<C>(set.first > 0 ? b : -b);
        }
      }
    }
    const bool paired = pairedSize < directSize;
    // Behind the coefficients, which of the two they are.
    pairs[count * count] = paired;
    if (paired) return;
    for (int64_t j = 0; j < particles_; ++j) {
      for (int64_t r = 0; r < count; ++r) {
        coefficients[j * count + r] = static_cast<C>(slopes[pairOf(set.first + r, j)]);
      }
    }
  }

  // The coefficients of one set; `pairs` is null where they are those of the direct form.
  struct Coefficients {
    const C *direct, *pairs;
  };
  Coefficients coefficientsOf(const Set& set, const C* coefficients) const {
    const C* direct = coefficients + (set.first > 0 ? 2 * m_ * particles_ : 0);
    const C* pairs = direct + particles_ * set.count;
    return {direct, pairs[set.count * set.count] != 0 ? pairs : nullptr};
  }

  void sweep(int64_t group, int64_t range, const Scratch& s, const C* coefficients) const {
    if constexpr (std::is_same_v<T, float> && std::is_same_v<C, float>) {
      if (fours_) return sweepFours(group, range, coefficients);
    }
    C* results[kMaxMmdParticles];
    forSlices(range, [&](int64_t at, int64_t n) {
      C* points = pointsAt(s, at);
      if (!kept_) pack(in_.x, in_.y, group, at, n, s.rows, points);
      const bool inPlace = std::is_same_v<T, C> && n % kChunk == 0;
      const bool streamed = inPlace && streamed_;
      for (const Set& set : sets()) {
        if (!set.gradient) continue;
        T* rows = set.gradient.template data<T>() + group * set.count * dim_ + at;
        for (int64_t r = 0; r < set.count; ++r) {
          results[r] = inPlace ? reinterpret_cast<C*>(rows + r * dim_) : s.staged + r * slice_;
        }
        const auto [direct, pairs] = coefficientsOf(set, coefficients);
        mmdSweep(MmdSweep<C>{particles_, (n + kChunk - 1) / kChunk, set.first, set.count, points, direct, pairs,
                             results, streamed});
        if (inPlace) continue;
        for (int64_t r = 0; r < set.count; ++r) store(results[r], n, s.rows, rows + r * dim_);
      }
    });
  }

  void sweepFours(int64_t group, int64_t range, const float* coefficients) const {
    const MmdFour rows = four(group, range);
    for (const Set& set : sets()) {
      if (!set.gradient) continue;
      const auto [direct, pairs] = coefficientsOf(set, coefficients);
      float* out = set.gradient.template data<float>() + group * 4 * dim_ + range * rangeSize_;
      mmdFourGradient(rows, {set.first > 0, direct, pairs, out, streamed_});
    }
  }

  static void store(const C* from, int64_t n, Wide* row, T* to) {
    if constexpr (sizeof(T) == 2) {
      std::copy_n(from, n, row);
      fromFloatRun(to, row, n);
    } else {
      std::copy_n(from, n, to);
    }
  }

  const MmdOptions& options_;
  const Results& out_;
  const MmdOperands& in_;
  const Directions& along_;
  const int64_t groups_, m_, n_, particles_, dim_, pairs_, padded_, slice_;
  const bool moving_, differentiated_;
  int64_t ranges_ = 1, rangeSize_ = 0, packed_ = 0;
  bool kept_ = false, streamed_ = false, fours_ = false;
};

void runMmd(const MmdOptions& options, const Results& out, const MmdOperands& in, const Directions& along) {
  dispatchFloating(in.x.dtype(), [&]<class T>() {
    if (std::is_same_v<T, double> || in.x.shape()[2] < kFewFeatures)
      Mmd<T, double>(options, out, in, along).run();
    else
      Mmd<T, Compute<T>>(options, out, in, along).run();
  });
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
