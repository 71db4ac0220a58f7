// The kernels of the maximum mean discrepancy: one that does all for groups that fit a block's shared memory, and three
// for those that do not fit a cluster of blocks either (mmd_cluster.cu): distances of parts, what follows from them,
// gradients of parts.
#pragma once

#include "cuda/mmd_finish.cuh"
#include "cuda/mmd_sweep.cuh"

namespace flowmap::cuda {

template <class T>
using MmdStatistics = Compute<T>;

// Where things lie in dynamic shared memory; `end` is where slots begin. `partials`: of blocks that share a group.
struct MmdRoom {
  int64_t totals, squares, slopes, ofX, ofY, partials, end;
};

// Sums that are joined at once.
template <class T, class C, int kEach, bool kTangent = false>
constexpr int kMmdJoined = kEach > 0 ? (mmdPairs(2 * kEach) > 8 ? kWarp : 8)
                                     : kMmdTile<T, C, kTangent>* kMmdTile<T, C, kTangent>;

// Few particles in float: two blocks must fit a multiprocessor's registers.
template <class C, int kEach>
constexpr int kMmdBlocks = kEach > 0 && sizeof(C) == 4 ? 2 : 1;

// A block that has its groups to itself: what it measures is the whole.
struct MmdAlone {
  __device__ __forceinline__ double* measured(double* squares) const { return squares; }
  __device__ __forceinline__ void join(double*, int) const { __syncthreads(); }
  __device__ __forceinline__ bool leads() const { return true; }
  __device__ __forceinline__ void end() const {}
};

// All of the block's groups, from start to end. kEach particles of either kind, or any numbers where it is 0. Rows
// without gx and gy: the values alone. `blocks`: MmdAlone, or what the block does with others that have other features.
template <class T, class C, int kEach, class Blocks>
__device__ __forceinline__ void mmdGroups(const MmdPlan& plan, const MmdFormula& formula, const MmdRows<T>& rows,
                                          const MmdPerGroup<MmdStatistics<T>>& perGroup, const MmdRoom& room,
                                          char* shared, Blocks& blocks) {
  MmdJoin<kMmdJoined<T, C, kEach>> join(shared);
  const bool differentiated = rows.gx || rows.gy;
  C* const ofX = rows.gx ? reinterpret_cast<C*>(shared + room.ofX) : nullptr;
  C* const ofY = rows.gy ? reinterpret_cast<C*>(shared + room.ofY) : nullptr;
  const MmdGroup<C> work{reinterpret_cast<double*>(shared + room.squares),
                         nullptr,
                         differentiated ? reinterpret_cast<double*>(shared + room.slopes) : nullptr,
                         {ofX, ofY}};
  double* totals = reinterpret_cast<double*>(shared + room.totals);
  MmdColumns<T> columns(plan, rows, shared + room.end);
  for (int64_t unit = blockIdx.x; unit < plan.units; unit += gridDim.x) {
    columns.enter(unit);
    double* measured = blocks.measured(work.squares);
    if constexpr (kEach > 0)
      mmdMeasureFew<2 * kEach, C>(columns, plan, measured, join);
    else
      mmdMeasureMany<false, false, C>(columns, plan, measured, nullptr, join);
    blocks.join(work.squares, mmdPairs(plan.particles()));
    const int paired = mmdFinish(plan, formula, perGroup, columns.group(), work, join, totals, blocks.leads());
    if constexpr (kEach > 0) {
#pragma unroll 1
      for (int set = differentiated && rows.gx ? 0 : 1; set < 2; ++set) {
        T* gradient = set == 0 ? rows.gx : rows.gy;
        const bool last = set == 1 || !rows.gy;
        mmdSweepFew<kEach>(columns, plan, set, paired & (1 << set), set == 0 ? ofX : ofY, gradient, last);
        if (last) break;
      }
    } else {
#pragma unroll 1
      for (int step = 0; step < plan.steps; ++step) {
        if (differentiated && columns.has(step)) mmdSweepStep(columns, plan, step, paired, work.coefficients, rows);
        columns.release();
      }
    }
    columns.leave();
  }
  ptx::cpAsyncWaitAll();
  blocks.end();
}

template <class T, class C, int kEach>
__global__ void __launch_bounds__(kThreads, kMmdBlocks<C, kEach>)
    mmdKernel(const __grid_constant__ MmdPlan plan, const __grid_constant__ MmdFormula formula,
              const __grid_constant__ MmdRows<T> rows, const __grid_constant__ MmdPerGroup<MmdStatistics<T>> perGroup,
              const __grid_constant__ MmdRoom room) {
  extern __shared__ __align__(16) char shared[];
  MmdAlone alone;
  mmdGroups<T, C, kEach>(plan, formula, rows, perGroup, room, shared, alone);
}

// partials [units, kTangent ? 2 : 1, pairs]
template <class T, class C, bool kTangent>
__global__ void __launch_bounds__(kThreads, 1)
    mmdMeasureKernel(const __grid_constant__ MmdPlan plan, const __grid_constant__ MmdRows<T> rows, double* partials,
                     MmdRoom room) {
  extern __shared__ __align__(16) char shared[];
  MmdJoin<kMmdJoined<T, C, 0, kTangent>> join(shared);
  MmdColumns<T> columns(plan, rows, shared + room.end);
  const int64_t pairs = mmdPairs(plan.particles());
  for (int64_t unit = blockIdx.x; unit < plan.units; unit += gridDim.x) {
    columns.enter(unit);
    double* squares = partials + unit * (kTangent ? 2 : 1) * pairs;
    mmdMeasureMany<kTangent, true, C>(columns, plan, squares, squares + pairs, join);
    columns.leave();
  }
  ptx::cpAsyncWaitAll();
}

// What a group of the finishing kernel has in device memory. squares [pairs + 1], tangents or slopes [pairs + 1], and
// coefficients of x, then of y.
template <class C>
struct MmdWork {
  double *squares, *others;
  C* coefficients;
  int* paired;
  bool differentiated, moving, needX, needY;

  __device__ __forceinline__ C* coefficientsOf(const MmdPlan& plan, int64_t group, int set) const {
    const int particles = plan.particles(), ofX = needX ? particles * mmdPadded(plan.m) : 0;
    const int ofY = needY ? particles * mmdPadded(plan.n) : 0;
    if (!(set == 0 ? needX : needY)) return nullptr;
    return coefficients + group * (ofX + ofY) + (set == 0 ? 0 : ofX);
  }
};

// A block per group; groups counted from plan.firstGroup on.
template <class S, class C>
__global__ void __launch_bounds__(kThreads, 1)
    mmdFinishKernel(const __grid_constant__ MmdPlan plan, const __grid_constant__ MmdFormula formula,
                    const __grid_constant__ MmdPerGroup<S> perGroup, const double* partials, MmdWork<C> work) {
  __shared__ double totals[kMmdTotals];
  __shared__ __align__(16) char room[MmdJoin<8>::bytes(kThreads)];
  MmdJoin<8> join(room);
  const int pairs = mmdPairs(plan.particles()), arrays = work.moving ? 2 : 1;
  const int lane = threadIdx.x % kWarp;
  for (int64_t group = blockIdx.x; group < plan.groups; group += gridDim.x) {
    double* squares = work.squares + group * (pairs + 1);
    double* others = work.others + group * (pairs + 1);
    // A warp per pair adds up its parts.
    for (int at = threadIdx.x / kWarp; at < arrays * pairs; at += kThreads / kWarp) {
      double sum = 0;
      for (int64_t part = lane; part < plan.parts; part += kWarp) {
        sum += partials[(group * plan.parts + part) * arrays * pairs + at];
      }
      sum = joinWarp(sum, Plus<double>());
      if (lane == 0) (at < pairs ? squares[at] : others[at - pairs]) = sum;
    }
    __syncthreads();
    const MmdGroup<C> finished{squares,
                               work.moving ? others : nullptr,
                               work.differentiated ? others : nullptr,
                               {work.coefficientsOf(plan, group, 0), work.coefficientsOf(plan, group, 1)}};
    const int paired = mmdFinish(plan, formula, perGroup, plan.firstGroup + group, finished, join, totals);
    if (work.differentiated && threadIdx.x == 0) work.paired[group] = paired;
    __syncthreads();
  }
}

template <class T, class C>
__global__ void __launch_bounds__(kThreads)
    mmdSweepKernel(const __grid_constant__ MmdPlan plan, const __grid_constant__ MmdRows<T> rows,
                   const __grid_constant__ MmdWork<C> work) {
  extern __shared__ __align__(16) char shared[];
  MmdColumns<T> columns(plan, rows, shared);
  for (int64_t unit = blockIdx.x; unit < plan.units; unit += gridDim.x) {
    columns.enter(unit);
    const int64_t group = columns.group() - plan.firstGroup;
    const int paired = work.paired[group];
    C* const coefficients[2] = {work.coefficientsOf(plan, group, 0), work.coefficientsOf(plan, group, 1)};
#pragma unroll 1
    for (int step = 0; step < plan.steps; ++step) {
      columns.wait(step, step);
      if (columns.has(step)) {
        mmdSweepStep(columns, plan, step, paired, coefficients, rows);
      }
      columns.release();
    }
    columns.leave();
  }
  ptx::cpAsyncWaitAll();
}

}  // namespace flowmap::cuda
