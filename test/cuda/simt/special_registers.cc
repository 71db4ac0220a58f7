// What a thread's special registers hold.
#include "block.h"

namespace flowmap::simt {

uint64_t Block::special(const Thread& t, Special what) const {
  const Index3 size = launch.block, clusters = launch.cluster;
  switch (what) {
    case Special::tidX:
      return t.id.x;
    case Special::tidY:
      return t.id.y;
    case Special::tidZ:
      return t.id.z;
    case Special::ntidX:
      return size.x;
    case Special::ntidY:
      return size.y;
    case Special::ntidZ:
      return size.z;
    case Special::ctaidX:
      return index.x;
    case Special::ctaidY:
      return index.y;
    case Special::ctaidZ:
      return index.z;
    case Special::nctaidX:
      return launch.grid.x;
    case Special::nctaidY:
      return launch.grid.y;
    case Special::nctaidZ:
      return launch.grid.z;
    case Special::laneId:
      return t.lane;
    case Special::warpId:
      return t.index / 32;
    case Special::warpCount:
      return warps.size();
    case Special::lanemaskEq:
      return 1u << t.lane;
    case Special::lanemaskLt:
      return (1u << t.lane) - 1;
    case Special::lanemaskLe:
      return (2ull << t.lane) - 1;
    case Special::lanemaskGt:
      return uint32_t(~((2ull << t.lane) - 1));
    case Special::lanemaskGe:
      return uint32_t(~((1u << t.lane) - 1));
    case Special::dynamicSharedBytes:
      return launch.dynamicSharedBytes;
    case Special::totalSharedBytes:
      return shared.size();
    case Special::smId:
      return 0;
    case Special::smCount:
      return 1;
    case Special::gridId:
      return 1;
    case Special::clusterIdX:
      return index.x / clusters.x;
    case Special::clusterIdY:
      return index.y / clusters.y;
    case Special::clusterIdZ:
      return index.z / clusters.z;
    case Special::clusterCountX:
      return launch.grid.x / clusters.x;
    case Special::clusterCountY:
      return launch.grid.y / clusters.y;
    case Special::clusterCountZ:
      return launch.grid.z / clusters.z;
    case Special::inClusterX:
      return index.x % clusters.x;
    case Special::inClusterY:
      return index.y % clusters.y;
    case Special::inClusterZ:
      return index.z % clusters.z;
    case Special::clusterSizeX:
      return clusters.x;
    case Special::clusterSizeY:
      return clusters.y;
    case Special::clusterSizeZ:
      return clusters.z;
    case Special::clusterRank:
      return rank;
    case Special::clusterBlocks:
      return clusters.count();
    case Special::isExplicitCluster:
      return launch.explicitCluster;
  }
  return 0;
}

}  // namespace flowmap::simt
