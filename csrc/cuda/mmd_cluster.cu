// The maximum mean discrepancy of groups that a cluster of blocks shares: value and gradients in one launch.
#include "cuda/mmd_cluster.cuh"

namespace flowmap::cuda {
namespace {

template <class T, class C, int kEach>
__global__ void __launch_bounds__(kThreads, kMmdBlocks<C, kEach>)
    mmdClusterGroupsKernel(const __grid_constant__ MmdPlan plan, const __grid_constant__ MmdFormula formula,
                           const __grid_constant__ MmdRows<T> rows,
                           const __grid_constant__ MmdPerGroup<MmdStatistics<T>> perGroup,
                           const __grid_constant__ MmdRoom room) {
  extern __shared__ __align__(16) char shared[];
  MmdCluster cluster(reinterpret_cast<double*>(shared + room.partials), mmdPairs(plan.particles()));
  mmdGroups<T, C, kEach>(plan, formula, rows, perGroup, room, shared, cluster);
}

}  // namespace

template <class T, class C>
MmdGroupsKernel<T> mmdClusterKernel(int each) {
  if constexpr (kMmdFewInCluster<T, C>) {
    if (each == 1) return mmdClusterGroupsKernel<T, C, 1>;
    if (each == 2) return mmdClusterGroupsKernel<T, C, 2>;
    if (each == 4) return mmdClusterGroupsKernel<T, C, 4>;
  }
  return mmdClusterGroupsKernel<T, C, 0>;
}

template MmdGroupsKernel<double> mmdClusterKernel<double, double>(int);
template MmdGroupsKernel<float> mmdClusterKernel<float, float>(int);
template MmdGroupsKernel<float> mmdClusterKernel<float, double>(int);
template MmdGroupsKernel<BFloat16> mmdClusterKernel<BFloat16, float>(int);
template MmdGroupsKernel<BFloat16> mmdClusterKernel<BFloat16, double>(int);
template MmdGroupsKernel<Float16> mmdClusterKernel<Float16, float>(int);
template MmdGroupsKernel<Float16> mmdClusterKernel<Float16, double>(int);

}  // namespace flowmap::cuda
