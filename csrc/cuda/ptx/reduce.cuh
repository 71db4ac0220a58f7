// Sums in global memory by atomics whose result nobody asks for (sm_90: four floats at once, 16-byte aligned).
#pragma once

namespace flowmap::cuda::ptx {

__device__ __forceinline__ void addToGlobal(float* to, float x, float y, float z, float w) {
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};\n" ::"l"(to), "f"(x), "f"(y), "f"(z), "f"(w)
               : "memory");
}

}  // namespace flowmap::cuda::ptx
