// The clusters that a launch asks for, and whether the pretended device has them.
#pragma once

#include <cuda_runtime_api.h>

#include "../block.h"

namespace flowmap::simt {

struct ClusterShape {
  Index3 size;
  bool named = false;  // by the launch or the kernel
};

/** `cluster` is the dimension among the attributes, or null. */
cudaError_t readAttributes(const cudaLaunchConfig_t&, const dim3*& cluster);
/** Of one block where nobody names one. */
cudaError_t clusterOf(const Kernel&, dim3 grid, const dim3* asked, ClusterShape&);
/** cudaFuncAttributeNonPortableClusterSizeAllowed */
void allowLargeClusters(const Kernel&, bool);

}  // namespace flowmap::simt
