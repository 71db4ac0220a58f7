// Sorting on the device: keys with the number each goes with.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {

// Sorts n pairs in place by key; equal keys stay in the order they are in. Keys are below 2^bits. Values must rise from
// pair to pair among equal keys (positions do), which makes the order unique: every method gives the same.
void sortPairs(const Runtime& runtime, Device& device, uint64_t* keys, int32_t* values, int64_t n, int bits);

}  // namespace flowmap::cuda
