// The maximum mean discrepancy over groups: which kernels, and how they are cut. A group that fits the shared memory of
// a block, or of a cluster of blocks, is read once, value and gradients in one launch; others, and tangents, take
// passes over parts of their features.
#include <cstring>
#include <optional>
#include <sstream>

#include "core/dispatch.h"
#include "cuda/backend.h"
#include "cuda/mmd_cluster.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {
namespace {

// Features below which rounding errors of float do not average out: arithmetic is in double.
constexpr int64_t kFewFeatures = 1024;
constexpr int64_t kEnoughUnits = 512;     // blocks that occupy any device we expect
constexpr int64_t kLeastSteps = 4;        // packets of a row a thread has before more threads are worth their joins
constexpr int64_t kReservedBytes = 1024;  // of shared memory, by the system for every block
// Of particles: groups of which all passes are launched before those of the next, so that later passes find them in the
// second-level cache.
constexpr int64_t kBatchBytes = 32 << 20;
constexpr int kBlocksPerMultiprocessor = 16;

std::string describeWeight(const Fault& fault) {
  double value;
  std::memcpy(&value, &fault.value, sizeof(value));
  const bool loss = fault.position & 1;
  std::ostringstream text;
  text << (loss ? "lossWeight" : "weight") << " must be finite" << (loss ? "" : " and at least 0") << ", got " << value
       << " for group " << fault.position / 2;
  return text.str();
}

// Scales beyond those that are parameters.
struct ScaleBatch {
  int64_t first;
  int count;
  double scales[256];
};
__global__ void writeScalesKernel(double* out, const __grid_constant__ ScaleBatch batch) {
  for (int i = threadIdx.x; i < batch.count; i += static_cast<int>(blockDim.x)) {
    out[batch.first + i] = batch.scales[i];
  }
}

struct Call {
  const char* op;
  const MmdOptions& options;
  Tensor value, tangent, gx, gy;
  const MmdOperands& in;
  Tensor tx, ty, g;
};

template <class T, class C>
class Mmd {
 public:
  Mmd(Runtime& runtime, const Call& call)
      : runtime_(runtime),
        call_(call),
        moving_(call.tangent),
        differentiated_(call.gx || call.gy),
        m_(static_cast<int>(call.in.x.shape()[1])),
        n_(static_cast<int>(call.in.y.shape()[1])),
        groups_(call.in.x.shape()[0]),
        dim_(call.in.x.shape()[2]),
        packets_(ceilDiv(dim_, kMmdCount<T>)),
        limit_(static_cast<int64_t>(runtime.sharedMemoryPerBlock())),
        rows_{data(call.in.x), data(call.in.y), data(call.tx), data(call.ty), data(call.gx), data(call.gy)},
        more_(call.in.x.device(), std::max<int64_t>(1, bandwidths() - MmdFormula::kScales)),
        formula_(formula()),
        perGroup_(perGroup()) {}

  void run() {
    // Kernels of their own for what is common. Packets of 16 bits have too many features for four particles in double.
    constexpr bool kFour = sizeof(C) == 4 || sizeof(T) > 2;
    bool done = false;
    if (m_ == n_ && m_ == 1) {
      done = whole<1>();
    } else if (m_ == n_ && m_ == 2) {
      done = whole<2>();
    } else if (kFour && m_ == n_ && m_ == 4) {
      if constexpr (kFour) done = whole<4>();
    } else {
      done = whole<0>();
    }
    if (!done) passes();
  }

 private:
  using S = MmdStatistics<T>;

  static T* data(const Tensor& t) { return t.data<T>(); }
  int64_t bandwidths() const { return static_cast<int64_t>(call_.options.bandwidths.size()); }
  int particles() const { return m_ + n_; }

  MmdFormula formula() const {
    const MmdOptions& options = call_.options;
    MmdFormula formula{options.kernel, options.unbiased, static_cast<int>(bandwidths()), options.eps, {}, more_.data()};
    ScaleBatch batch{};
    for (int64_t i = 0; i < bandwidths(); ++i) {
      const double h = options.bandwidths[i], dim = static_cast<double>(dim_);
      const bool squared = options.kernel == MmdKernel::Rbf || options.kernel == MmdKernel::Imq;
      const double scale = 1 / (squared ? h * h * dim : h * dim);
      if (i < MmdFormula::kScales) {
        formula.scales[i] = scale;
        continue;
      }
      batch.scales[batch.count++] = scale;
      if (batch.count < static_cast<int>(std::size(batch.scales)) && i + 1 < bandwidths()) continue;
      launchKernel(runtime_, writeScalesKernel, Grid{dim3(1)}, more_.data(), batch);
      batch.first += batch.count;
      batch.count = 0;
    }
    return formula;
  }

  MmdPerGroup<S> perGroup() const {
    const auto given = [](const Tensor& t) { return t.data<const S>(); };
    MmdPerGroup<S> perGroup{given(call_.in.weight),
                            given(call_.in.lossWeight),
                            given(call_.g),
                            call_.value.data<S>(),
                            call_.tangent.data<S>(),
                            runtime_.fault(),
                            {}};
    if (call_.in.weight || call_.in.lossWeight) {
      perGroup.name = runtime_.nameFault(call_.op, ErrorCode::Argument, describeWeight, call_.value);
    }
    return perGroup;
  }

  MmdPlan planOf(int64_t parts, int64_t packetsPerPart) const {
    MmdPlan plan{};
    plan.groups = groups_;
    plan.parts = parts;
    plan.units = groups_ * parts;
    plan.dim = dim_;
    plan.packets = packets_;
    plan.packetsPerPart = packetsPerPart;
    plan.byParts = Divisor(parts, plan.units);
    plan.m = m_;
    plan.n = n_;
    plan.rows = moving_ ? 2 * particles() : particles();
    plan.width = commonWidth(sizeof(T), dim_ * static_cast<int64_t>(sizeof(T)));
    return plan;
  }

  // A power of two of threads for packets of a row.
  int threadsFor(int64_t packets) const {
    const int64_t wanted = groups_ < kEnoughUnits ? packets : packets / kLeastSteps;
    int threads = kWarp;
    while (threads < kThreads && threads * 2 <= wanted) threads *= 2;
    return threads;
  }

  static int64_t slotBytes(const MmdPlan& plan) { return int64_t{plan.rows} * plan.columns * kPacketBytes; }

  // Shared memory beside slots: half of what a multiprocessor has where `least` fits that, so that two blocks take
  // turns.
  int64_t slotRoom(int64_t beside, int64_t least) const {
    const int64_t half = (limit_ - kReservedBytes) / 2;
    return (beside + least <= half ? half : limit_) - beside;
  }

  template <class Kernel>
  Grid gridOf(Kernel kernel, const MmdPlan& plan, int threads, int64_t bytes) const {
    constexpr int64_t kWithoutAsking = 48 << 10;
    if (bytes > kWithoutAsking) {
      check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
            call_.op);
    }
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared),
          call_.op);
    const int64_t each = std::clamp<int64_t>(limit_ / bytes, 1, kBlocksPerMultiprocessor);
    const int64_t blocks = std::min(plan.units, each * runtime_.multiprocessors());
    return {dim3(static_cast<unsigned>(blocks)), dim3(threads), static_cast<size_t>(bytes)};
  }

  struct Cut {
    MmdPlan plan;
    MmdRoom room;
    int threads;
    int64_t bytes;
  };

  // A group in the shared memory of `blocks`, a slice of the features in each; none where it does not fit. There is
  // room for all gradients, wanted or not: how sums are cut, and so their bits, do not depend on what is asked for.
  template <int kEach>
  std::optional<Cut> cutOf(int blocks) const {
    // Slices begin where memory has lines of 128 bytes.
    const int64_t line = blocks == 1 ? 1 : 128 / kPacketBytes;
    const int64_t packets = ceilDiv(ceilDiv(packets_, blocks), line) * line;
    const int threads = threadsFor(packets), pairs = mmdPairs(particles());
    MmdPlan plan = planOf(blocks, packets);
    plan.columns = threads;
    plan.steps = static_cast<int>(ceilDiv(packets, threads));
    MmdRoom room{};
    int64_t at = MmdJoin<kMmdJoined<T, C, kEach>>::bytes(threads);
    const auto take = [&](int64_t bytes) {
      const int64_t begin = at;
      at += ceilDiv(bytes, kPacketBytes) * kPacketBytes;
      return begin;
    };
    room.totals = take(kMmdTotals * sizeof(double));
    room.squares = take((pairs + 1) * sizeof(double));
    room.slopes = take((pairs + 1) * sizeof(double));
    room.ofX = take(int64_t{particles()} * mmdPadded(m_) * sizeof(C));
    room.ofY = take(int64_t{particles()} * mmdPadded(n_) * sizeof(C));
    if (blocks > 1) room.partials = take(int64_t{2} * pairs * sizeof(double));
    room.end = at;
    const int64_t slot = slotBytes(plan);
    if (room.end + plan.steps * slot > limit_) return std::nullopt;
    plan.slots = static_cast<int>(std::min<int64_t>(2 * plan.steps, slotRoom(room.end, plan.steps * slot) / slot));
    return Cut{plan, room, threads, room.end + plan.slots * slot};
  }

  // Everything in one launch; false where a group does not fit, and for tangents.
  template <int kEach>
  bool whole() const {
    if (moving_) return false;
    constexpr int kEachOfClusters = kMmdFewInCluster<T, C> ? kEach : 0;
    const std::optional<Cut> cut = cutOf<kEach>(1);
    if (!cut) return clustered<kEachOfClusters>();
    const Grid grid = gridOf(mmdKernel<T, C, kEach>, cut->plan, cut->threads, cut->bytes);
    launchKernel(runtime_, mmdKernel<T, C, kEach>, grid, cut->plan, formula_, rows_, perGroup_, cut->room);
    return true;
  }

  // In the smallest clusters that a group fits.
  template <int kEach>
  bool clustered() const {
    if (runtime_.major() < 9) return false;
    const auto kernel = mmdClusterKernel<T, C>(kEach);
    for (int blocks = 2; blocks <= kMmdMostBlocks; blocks *= 2) {
      const std::optional<Cut> cut = cutOf<kEach>(blocks);
      if (!cut) continue;
      Grid grid = gridOf(kernel, cut->plan, cut->threads, cut->bytes);
      // As many clusters as run at once: blocks of one are on multiprocessors near each other.
      grid.blocks = dim3(static_cast<unsigned>(blocks));
      const ClusterConfig cluster(runtime_, blocks, grid);
      int most = 0;
      check(cudaOccupancyMaxActiveClusters(&most, kernel, &cluster.config), call_.op);
      if (most == 0) return false;  // a share of a GPU may have too few multiprocessors
      grid.blocks.x *= static_cast<unsigned>(std::min<int64_t>(most, groups_));
      launchClusters(runtime_, blocks, kernel, grid, cut->plan, formula_, rows_, perGroup_, cut->room);
      return true;
    }
    return false;
  }

  void passes() const {
    if (moving_)
      passesOf<true>();
    else
      passesOf<false>();
  }

  // Distances of parts, what follows from them, gradients of parts.
  template <bool kTangent>
  void passesOf() const {
    const auto measure = mmdMeasureKernel<T, C, kTangent>;
    const bool oneTile = particles() <= kMmdTile<T, C, kTangent>;
    MmdPlan plan = planOf(1, packets_);
    plan.columns = threadsFor(packets_);
    int threads = plan.columns;
    const auto joinBytes = [&] { return MmdJoin<kMmdJoined<T, C, 0, kTangent>>::bytes(threads); };
    // Room for two slots at least; of very many particles, fewer columns than a warp has lanes.
    while (joinBytes() + 2 * slotBytes(plan) > limit_) {
      plan.columns /= 2;
      threads = std::max(kWarp, plan.columns);
    }
    MmdRoom room{};
    room.end = joinBytes();
    const int64_t slot = slotBytes(plan);
    plan.slots = static_cast<int>(std::min<int64_t>(8, slotRoom(room.end, 2 * slot) / slot));
    // Steps of a part: few where there are few groups. All stay until the last tile has seen them.
    const int64_t most = oneTile ? 4 * kLeastSteps : std::max(1, plan.slots / 2);
    const int64_t steps = std::clamp<int64_t>(packets_ * groups_ / (plan.columns * kEnoughUnits), 1, most);
    const int64_t packetsPerPart = plan.columns * steps, parts = ceilDiv(packets_, packetsPerPart);
    const int columns = plan.columns, slots = plan.slots;
    plan = planOf(parts, packetsPerPart);
    plan.columns = columns;
    plan.steps = static_cast<int>(steps);
    plan.slots = slots;

    const int64_t groupBytes = int64_t{plan.rows} * dim_ * sizeof(T), pairs = mmdPairs(particles());
    const int64_t batch = std::clamp<int64_t>(kBatchBytes / groupBytes, 1, groups_);
    const Scratch<double> partials(device(), batch * parts * pairs * (kTangent ? 2 : 1));
    const Scratch<double> squares(device(), batch * (pairs + 1)), others(device(), batch * (pairs + 1));
    const int64_t coefficients =
        int64_t{particles()} * ((call_.gx ? mmdPadded(m_) : 0) + (call_.gy ? mmdPadded(n_) : 0));
    const Scratch<C> ofGradients(device(), std::max<int64_t>(1, batch * coefficients));
    const Scratch<int> paired(device(), batch);
    const MmdWork<C> work{squares.data(),  others.data(), ofGradients.data(),          paired.data(),
                          differentiated_, moving_,       static_cast<bool>(call_.gx), static_cast<bool>(call_.gy)};
    for (plan.firstGroup = 0; plan.firstGroup < groups_; plan.firstGroup += batch) {
      plan.groups = std::min(batch, groups_ - plan.firstGroup);
      plan.units = plan.groups * parts;
      launchKernel(runtime_, measure, gridOf(measure, plan, threads, room.end + plan.slots * slot), plan, rows_,
                   partials.data(), room);
      launchKernel(runtime_, mmdFinishKernel<S, C>, unitGrid(plan.groups), plan, formula_, perGroup_, partials.data(),
                   work);
      if (!differentiated_) continue;
      const auto sweep = mmdSweepKernel<T, C>;
      launchKernel(runtime_, sweep, gridOf(sweep, plan, threads, plan.slots * slot), plan, rows_, work);
    }
  }

  Device& device() const { return call_.in.x.device(); }

  Runtime& runtime_;
  const Call& call_;
  const bool moving_, differentiated_;
  const int m_, n_;
  const int64_t groups_, dim_, packets_, limit_;
  const MmdRows<T> rows_;
  const Scratch<double> more_;
  const MmdFormula formula_;
  const MmdPerGroup<S> perGroup_;
};

void runMmd(Runtime& runtime, const Call& call) {
  if (call.in.x.shape()[0] == 0) return;
  dispatchFloating(call.in.x.dtype(), [&]<class T>() {
    if (std::is_same_v<T, double> || call.in.x.shape()[2] < kFewFeatures)
      Mmd<T, double>(runtime, call).run();
    else
      Mmd<T, Compute<T>>(runtime, call).run();
  });
}

}  // namespace

void CudaBackend::mmd(const MmdOptions& options, const Tensor& value, const Tensor& tangent, const MmdOperands& in,
                      const Tensor& tx, const Tensor& ty) {
  runMmd(runtime_, {tangent ? "mmdJvp" : "mmd", options, value, tangent, {}, {}, in, tx, ty, {}});
}

void CudaBackend::mmdVjp(const MmdOptions& options, const Tensor& value, const Tensor& gx, const Tensor& gy,
                         const MmdOperands& in, const Tensor& g) {
  runMmd(runtime_, {"mmdVjp", options, value, {}, gx, gy, in, {}, {}, g});
}

}  // namespace flowmap::cuda
