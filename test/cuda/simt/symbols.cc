// The special registers.
#include "symbols.h"

namespace flowmap::simt {

std::optional<Special> specialRegister(const std::string& name) {
  // Never destroyed, like all tables here: a stream's thread may still be in them when the process ends.
  static const auto& all = *new std::unordered_map<std::string, Special>{
      {"%tid.x", Special::tidX},
      {"%tid.y", Special::tidY},
      {"%tid.z", Special::tidZ},
      {"%ntid.x", Special::ntidX},
      {"%ntid.y", Special::ntidY},
      {"%ntid.z", Special::ntidZ},
      {"%ctaid.x", Special::ctaidX},
      {"%ctaid.y", Special::ctaidY},
      {"%ctaid.z", Special::ctaidZ},
      {"%nctaid.x", Special::nctaidX},
      {"%nctaid.y", Special::nctaidY},
      {"%nctaid.z", Special::nctaidZ},
      {"%laneid", Special::laneId},
      {"%warpid", Special::warpId},
      {"%nwarpid", Special::warpCount},
      {"%lanemask_eq", Special::lanemaskEq},
      {"%lanemask_lt", Special::lanemaskLt},
      {"%lanemask_le", Special::lanemaskLe},
      {"%lanemask_gt", Special::lanemaskGt},
      {"%lanemask_ge", Special::lanemaskGe},
      {"%dynamic_smem_size", Special::dynamicSharedBytes},
      {"%total_smem_size", Special::totalSharedBytes},
      {"%smid", Special::smId},
      {"%nsmid", Special::smCount},
      {"%gridid", Special::gridId},
      {"%clusterid.x", Special::clusterIdX},
      {"%clusterid.y", Special::clusterIdY},
      {"%clusterid.z", Special::clusterIdZ},
      {"%nclusterid.x", Special::clusterCountX},
      {"%nclusterid.y", Special::clusterCountY},
      {"%nclusterid.z", Special::clusterCountZ},
      {"%cluster_ctaid.x", Special::inClusterX},
      {"%cluster_ctaid.y", Special::inClusterY},
      {"%cluster_ctaid.z", Special::inClusterZ},
      {"%cluster_nctaid.x", Special::clusterSizeX},
      {"%cluster_nctaid.y", Special::clusterSizeY},
      {"%cluster_nctaid.z", Special::clusterSizeZ},
      {"%cluster_ctarank", Special::clusterRank},
      {"%cluster_nctarank", Special::clusterBlocks},
      {"%is_explicit_cluster", Special::isExplicitCluster},
  };
  const auto found = all.find(name);
  return found == all.end() ? std::nullopt : std::optional(found->second);
}

bool isClock(const std::string& name) {
  return name == "%clock" || name == "%clock64" || name == "%globaltimer" || name == "%globaltimer_lo";
}

}  // namespace flowmap::simt
