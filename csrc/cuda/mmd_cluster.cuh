// Groups of the maximum mean discrepancy that several blocks share, a cluster of them (sm_90): each has some features
// of all particles, and their partial sums of squares meet through each other's shared memory.
#pragma once

#include "cuda/mmd_kernels.cuh"
#include "cuda/ptx/cluster.cuh"

namespace flowmap::cuda {

constexpr int kMmdMostBlocks = 8;  // of a cluster, wherever there are clusters

// Whether a group of few particles may need a cluster: in double for the sake of few features it is small.
template <class T, class C>
constexpr bool kMmdFewInCluster = sizeof(C) == 4 || sizeof(T) == 8;

// Two rooms of partial sums in turn: who has met the others for a group has finished reading those of the group before.
class MmdCluster {
 public:
  __device__ __forceinline__ MmdCluster(double* partials, int pairs)
      : partials_(partials), pairs_(pairs), rank_(ptx::clusterRank()), blocks_(ptx::clusterBlocks()) {}

  __device__ __forceinline__ double* measured(double*) const { return partials_ + (turn_ ? pairs_ : 0); }

  // Adds up what the blocks measured in the order of their ranks, so that all have the same bits.
  __device__ __forceinline__ void join(double* squares, int pairs) {
    ptx::clusterArrive();
    ptx::clusterWait();
    for (int pair = threadIdx.x; pair < pairs; pair += static_cast<int>(blockDim.x)) {
      const double* mine = measured(nullptr) + pair;
      double sum = ptx::loadClusterDouble(ptx::clusterAddress(mine, 0));
      for (uint32_t rank = 1; rank < blocks_; ++rank) {
        sum += ptx::loadClusterDouble(ptx::clusterAddress(mine, rank));
      }
      squares[pair] = sum;
    }
    turn_ = !turn_;
    __syncthreads();
  }

  __device__ __forceinline__ bool leads() const { return rank_ == 0; }

  // No block may leave while others read from it.
  __device__ __forceinline__ void end() const {
    ptx::clusterArrive();
    ptx::clusterWait();
  }

 private:
  double* partials_;
  int pairs_;
  uint32_t rank_, blocks_;
  bool turn_ = false;
};

template <class T>
using MmdGroupsKernel = void (*)(MmdPlan, MmdFormula, MmdRows<T>, MmdPerGroup<MmdStatistics<T>>, MmdRoom);

// The kernel for `each` particles of either kind, 0 for any numbers.
template <class T, class C>
MmdGroupsKernel<T> mmdClusterKernel(int each);

}  // namespace flowmap::cuda
