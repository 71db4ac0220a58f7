// Contiguous runs from one element type to another. Floats to int32 truncate and saturate, NaN becomes 0; anything but
// zero is true.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace flowmap::cpu {

void convertRun(DType to, void* y, DType from, const void* x, int64_t n);

inline void toFloatRun(float* y, const BFloat16* x, int64_t n) { convertRun(DType::Float32, y, DType::BFloat16, x, n); }
inline void toFloatRun(float* y, const Float16* x, int64_t n) { convertRun(DType::Float32, y, DType::Float16, x, n); }
inline void fromFloatRun(BFloat16* y, const float* x, int64_t n) {
  convertRun(DType::BFloat16, y, DType::Float32, x, n);
}
inline void fromFloatRun(Float16* y, const float* x, int64_t n) { convertRun(DType::Float16, y, DType::Float32, x, n); }

}  // namespace flowmap::cpu
