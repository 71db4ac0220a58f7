// The arithmetic of the optimiser's kernels, once for all backends, with the same roundings on each.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/host_device.h"

namespace flowmap {

// Rounded by itself: nvcc would contract a * b + c.
FLOWMAP_HOST_DEVICE inline float product(float a, float b) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}
FLOWMAP_HOST_DEVICE inline double product(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

// A step's numbers, in double until the kernel's type is known:
// p ← p · decay − rate · m / (√v · root + eps), or, not adaptive, p ← p · decay − rate · m.
struct MomentStep {
  double beta1, beta2, rate, decay, coupledDecay, root, eps;
  bool adaptive;
  bool coupled() const { return coupledDecay > 0; }
};

inline MomentStep adamwNumbers(double learningRate, double beta1, double beta2, double eps, double weightDecay,
                               int64_t step) {
  const double correction1 = 1 - std::pow(beta1, static_cast<double>(step));
  const double correction2 = 1 - std::pow(beta2, static_cast<double>(step));
  return {.beta1 = beta1,
          .beta2 = beta2,
          .rate = learningRate / correction1,
          .decay = 1 - learningRate * weightDecay,
          .coupledDecay = 0,
          .root = 1 / std::sqrt(correction2),
          .eps = eps,
          .adaptive = true};
}

inline MomentStep radamNumbers(double learningRate, double beta1, double beta2, double eps, double weightDecay,
                               bool decoupled, int64_t step) {
  const double t = static_cast<double>(step);
  const double power2 = std::pow(beta2, t), correction2 = 1 - power2;
  const double rhoInfinity = 2 / (1 - beta2) - 1;
  const double rho = rhoInfinity - 2 * t * power2 / correction2;
  const bool adaptive = rho > 5;
  const double rectification =
      adaptive ? std::sqrt((rho - 4) * (rho - 2) * rhoInfinity / ((rhoInfinity - 4) * (rhoInfinity - 2) * rho)) : 1.0;
  const double root = 1 / std::sqrt(correction2);
  return {.beta1 = beta1,
          .beta2 = beta2,
          .rate = learningRate * rectification / (1 - std::pow(beta1, t)),
          .decay = decoupled ? 1 - learningRate * weightDecay : 1.0,
          .coupledDecay = decoupled ? 0.0 : weightDecay,
          .root = root,
          .eps = eps * root,  // eps is beside √v, before its correction
          .adaptive = adaptive};
}

// The same in the type of the arithmetic.
template <class C>
struct MomentNumbers {
  explicit MomentNumbers(const MomentStep& step)
      : beta1(static_cast<C>(step.beta1)),
        beta2(static_cast<C>(step.beta2)),
        rest1(static_cast<C>(1 - step.beta1)),
        rest2(static_cast<C>(1 - step.beta2)),
        rate(static_cast<C>(step.rate)),
        decay(static_cast<C>(step.decay)),
        coupledDecay(static_cast<C>(step.coupledDecay)),
        root(static_cast<C>(step.root)),
        eps(static_cast<C>(step.eps)) {}
  C beta1, beta2, rest1, rest2, rate, decay, coupledDecay, root, eps;
};

template <class C>
struct Moments {
  C value, m, v;
};

// One element: its parameter and moments before and after. `gradient` is scaled already.
template <class C>
FLOWMAP_HOST_DEVICE inline Moments<C> momentUpdate(const MomentNumbers<C>& with, bool adaptive, bool coupled,
                                                   const Moments<C>& old, C gradient) {
  if (coupled) gradient += product(with.coupledDecay, old.value);
  const C m = product(with.beta1, old.m) + product(with.rest1, gradient);
  const C v = product(with.beta2, old.v) + product(product(with.rest2, gradient), gradient);
  C change = product(with.rate, m);
  if (adaptive) change /= product(std::sqrt(v), with.root) + with.eps;
  return {product(old.value, with.decay) - change, m, v};
}

template <class C>
FLOWMAP_HOST_DEVICE inline C averageUpdate(C keep, C average, C take, C value) {
  return product(keep, average) + product(take, value);
}

// What gradients are scaled by so that their norm is at most maxNorm; a NaN norm stays visible.
FLOWMAP_HOST_DEVICE inline float clipScaleOf(double norm, double maxNorm) {
  const double scale = maxNorm / (norm + 1e-6);
  return static_cast<float>(scale < 1 || scale != scale ? scale : 1.0);
}

}  // namespace flowmap
