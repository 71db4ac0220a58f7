// The special registers.
#include "symbols.h"

namespace flowmap::simt {

std::optional<Special> specialRegister(const std::string& name) {
  static const std::unordered_map<std::string, Special> all = {
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
  };
  const auto found = all.find(name);
  return found == all.end() ? std::nullopt : std::optional(found->second);
}

bool isClock(const std::string& name) {
  return name == "%clock" || name == "%clock64" || name == "%globaltimer" || name == "%globaltimer_lo";
}

}  // namespace flowmap::simt
