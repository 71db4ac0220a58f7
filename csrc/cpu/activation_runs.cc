// Compiled once per SIMD level.
#include "cpu/activation_runs.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/activation_runs.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/vector_math-inl.h"

// after the exponential it calls
#include "core/activation_formulas-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

// Runs body on whole vectors, and on the rest through copies of vector length.
template <class C, size_t kInputs, size_t kOutputs, class Body>
void forVectors(int64_t n, const C* const (&inputs)[kInputs], C* const (&outputs)[kOutputs], Body body) {
  const hn::ScalableTag<C> d;
  using V = hn::Vec<decltype(d)>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  V in[kInputs], out[kOutputs];
  int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (size_t k = 0; k < kInputs; ++k) in[k] = inputs[k] ? hn::LoadU(d, inputs[k] + i) : hn::Zero(d);
    body(d, in, out);
    for (size_t k = 0; k < kOutputs; ++k) {
      if (outputs[k]) hn::StoreU(out[k], d, outputs[k] + i);
    }
  }
  if (i == n) return;
  HWY_ALIGN C buffer[hn::MaxLanes(d)];
  for (size_t k = 0; k < kInputs; ++k) {
    for (int64_t j = 0; j < lanes; ++j) buffer[j] = inputs[k] && i + j < n ? inputs[k][i + j] : C(0);
    in[k] = hn::Load(d, buffer);
  }
  body(d, in, out);
  for (size_t k = 0; k < kOutputs; ++k) {
    if (!outputs[k]) continue;
    hn::Store(out[k], d, buffer);
    for (int64_t j = 0; i + j < n; ++j) outputs[k][i + j] = buffer[j];
  }
}

template <class F, class C>
void forward(int64_t n, const C* x, const C* tx, C* y, C* ty) {
  forVectors<C, 2, 2>(n, {x, ty ? tx : nullptr}, {y, ty}, [](auto d, const auto* in, auto* out) {
    const auto f = F::at(d, in[0]);
    out[0] = f.value;
    out[1] = hn::Mul(f.first, in[1]);
  });
}

template <class F, class C>
void backward(int64_t n, const ActivationGradients<C>& run) {
  forVectors<C, 4, 2>(n, {run.x, run.tx, run.g, run.h}, {run.gx, run.gtx}, [](auto d, const auto* in, auto* out) {
    const auto f = F::at(d, in[0]);
    out[0] = hn::MulAdd(f.first, in[2], hn::Mul(f.second, hn::Mul(in[1], in[3])));
    out[1] = hn::Mul(f.first, in[3]);
  });
}

template <class C>
void ForwardOf(ActivationOp op, int64_t n, const C* x, const C* tx, C* y, C* ty) {
  if (op == ActivationOp::Gelu)
    forward<Gelu>(n, x, tx, y, ty);
  else
    forward<Silu>(n, x, tx, y, ty);
}

template <class C>
void BackwardOf(ActivationOp op, int64_t n, const ActivationGradients<C>& run) {
  if (op == ActivationOp::Gelu)
    backward<Gelu>(n, run);
  else
    backward<Silu>(n, run);
}

void ActivationF(ActivationOp op, int64_t n, const float* x, const float* tx, float* y, float* ty) {
  ForwardOf(op, n, x, tx, y, ty);
}
void ActivationD(ActivationOp op, int64_t n, const double* x, const double* tx, double* y, double* ty) {
  ForwardOf(op, n, x, tx, y, ty);
}
void ActivationVjpF(ActivationOp op, int64_t n, const ActivationGradients<float>& run) { BackwardOf(op, n, run); }
void ActivationVjpD(ActivationOp op, int64_t n, const ActivationGradients<double>& run) { BackwardOf(op, n, run); }

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace flowmap::cpu {

HWY_EXPORT(ActivationF);
HWY_EXPORT(ActivationD);
HWY_EXPORT(ActivationVjpF);
HWY_EXPORT(ActivationVjpD);

void activationRun(ActivationOp op, int64_t n, const float* x, const float* tx, float* y, float* ty) {
  HWY_DYNAMIC_DISPATCH(ActivationF)(op, n, x, tx, y, ty);
}
void activationRun(ActivationOp op, int64_t n, const double* x, const double* tx, double* y, double* ty) {
  HWY_DYNAMIC_DISPATCH(ActivationD)(op, n, x, tx, y, ty);
}
void activationVjpRun(ActivationOp op, int64_t n, const ActivationGradients<float>& run) {
  HWY_DYNAMIC_DISPATCH(ActivationVjpF)(op, n, run);
}
void activationVjpRun(ActivationOp op, int64_t n, const ActivationGradients<double>& run) {
  HWY_DYNAMIC_DISPATCH(ActivationVjpD)(op, n, run);
}

}  // namespace flowmap::cpu
#endif
