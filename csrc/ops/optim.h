// Contracts of the optimiser's kernels: over all tensors at once, and in place.
#pragma once

#include <vector>

#include "core/optional_tensor.h"

namespace flowmap::ops {

// One step of AdamW (Loshchilov and Hutter, arXiv 1711.05101) on params, with moments m and v in statistics dtype.
// masters: float32 copies of 16-bit params that the step is made on, else empty. gradScale: a 0-d float32 that
// multiplies the gradients, or absent. `step` counts from 1.
void adamwStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
               const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const OptionalTensor& gradScale,
               double learningRate, double beta1, double beta2, double eps, double weightDecay, int64_t step);

// One step of RAdam (Liu et al., arXiv 1908.03265), with arguments as above. Where the variance of the adaptive rate is
// not tractable yet (rho_t ≤ 5), the step is of momentum alone. Weight decay is added to the gradients, or, where
// `decoupled`, taken off the params.
void radamStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
               const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const OptionalTensor& gradScale,
               double learningRate, double beta1, double beta2, double eps, double weightDecay, bool decoupled,
               int64_t step);

// averages ← decay · averages + (1 − decay) · params
void emaUpdate(const std::vector<Tensor>& averages, const std::vector<Tensor>& params, double decay);

// √ of the sum of squares of all elements -> 0-d float32 (float64 if the tensors are)
Tensor globalNorm(const std::vector<Tensor>& tensors);

// min(1, maxNorm / (norm + 1e-6)) -> 0-d float32: what to scale gradients by
Tensor clipScale(const Tensor& norm, double maxNorm);

// target ← source, of the same shape, cast to target's dtype
void copyInto(const Tensor& target, const Tensor& source);

}  // namespace flowmap::ops
