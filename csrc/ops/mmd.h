// Contracts of the squared maximum mean discrepancy between groups of particles. x [G, M, D], y [G, N, D], weight and
// lossWeight [G] or absent (ones), values [G] in the statistics dtype. Kernels: 'laplace', 'rbf', 'imq', 'energy'; an
// empty list of bandwidths is {1}. Absent tangents are zero.
#pragma once

#include <string>
#include <tuple>
#include <vector>

#include "core/optional_tensor.h"

namespace flowmap::ops {

Tensor mmd(const Tensor& x, const Tensor& y, const OptionalTensor& weight, const OptionalTensor& lossWeight,
           const std::string& kernel, const std::vector<double>& bandwidths, double eps, bool unbiased);

// -> value, tangent
std::tuple<Tensor, Tensor> mmdJvp(const Tensor& x, const Tensor& y, const OptionalTensor& weight,
                                  const OptionalTensor& lossWeight, const OptionalTensor& tx, const OptionalTensor& ty,
                                  const std::string& kernel, const std::vector<double>& bandwidths, double eps,
                                  bool unbiased);

// -> value, gx, gy; an absent cotangent g [G] is ones, gradients that are not needed are absent
std::tuple<Tensor, Tensor, Tensor> mmdVjp(const Tensor& x, const Tensor& y, const OptionalTensor& weight,
                                          const OptionalTensor& lossWeight, const OptionalTensor& g,
                                          const std::string& kernel, const std::vector<double>& bandwidths, double eps,
                                          bool unbiased, bool needX, bool needY);

}  // namespace flowmap::ops
