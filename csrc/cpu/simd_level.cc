// Compiled once per SIMD level, as the kernels are, so that it names the level they run at.
#include <string>

#include "cpu/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/simd_level.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

const char* SimdLevel() { return hwy::TargetName(HWY_TARGET); }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(SimdLevel);

std::string simdLevel() { return HWY_DYNAMIC_DISPATCH(SimdLevel)(); }

}  // namespace flowmap::cpu
#endif
