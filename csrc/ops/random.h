// Contracts of random tensors. Element i depends on seed, offset and i alone; `offset` counts Philox blocks, of which
// `randomBlocks` says how many a draw uses.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace flowmap::ops {

// Uniform on [low, high).
Tensor randomUniform(Device& device, const Shape& shape, DType dtype, int64_t seed, int64_t offset, double low,
                     double high);
// Standard normal.
Tensor randomNormal(Device& device, const Shape& shape, DType dtype, int64_t seed, int64_t offset);
// Integers of [low, high), int32.
Tensor randomIntegers(Device& device, const Shape& shape, int64_t seed, int64_t offset, int64_t low, int64_t high);
// A permutation of 0 … n − 1, int32.
Tensor randomPermutation(Device& device, int64_t n, int64_t seed, int64_t offset);

// Blocks used by a draw of n elements of a dtype.
double randomBlocks(int64_t n, DType dtype);

// The float64 draws, at once and on the host: for schedules, which JavaScript computes itself.
std::vector<double> hostUniform(int64_t seed, int64_t offset, int64_t n);
std::vector<double> hostNormal(int64_t seed, int64_t offset, int64_t n);

}  // namespace flowmap::ops
