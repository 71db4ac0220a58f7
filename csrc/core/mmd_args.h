// What the kernels of the maximum mean discrepancy are given. G groups, M particles of x and N of y in each, D
// features.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace flowmap {

enum class MmdKernel : uint8_t { Laplace, Rbf, Imq, Energy };

constexpr int64_t kMaxMmdParticles = 64;

struct MmdOptions {
  MmdKernel kernel = MmdKernel::Laplace;
  std::vector<double> bandwidths;  // at least one; {1} for the energy distance
  double eps = 0;
  bool unbiased = false;
};

struct MmdOperands {
  Tensor x, y;                // [G, M, D], [G, N, D]
  Tensor weight, lossWeight;  // [G] in the statistics dtype; absent: ones
};

}  // namespace flowmap
