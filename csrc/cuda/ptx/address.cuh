// Addresses as PTX wants them.
#pragma once

#include <cstdint>

namespace flowmap::cuda::ptx {

/** The address in the shared window of what a generic pointer into shared memory points to. */
__device__ __forceinline__ uint32_t sharedAddress(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

}  // namespace flowmap::cuda::ptx
