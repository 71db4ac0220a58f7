#include "ops/optim.h"

#include "core/check.h"
#include "core/launch.h"

namespace flowmap::ops {
namespace {

void checkCount(const char* op, const char* argument, const std::vector<Tensor>& list, size_t expected) {
  if (list.size() != expected) {
    fail(ErrorCode::Argument, op, argument, " must have ", expected, " tensors, one for each of params, got ",
         list.size());
  }
}

void append(std::vector<Tensor>& to, const std::vector<Tensor>& from) { to.insert(to.end(), from.begin(), from.end()); }

// What a step with two moments works on.
struct MomentTensors {
  std::vector<Tensor> params, grads, m, v, masters;
  Tensor gradScale;
};

// The reverse of how momentStep lists them.
MomentTensors momentTensors(const Operands& of, bool withMasters) {
  const size_t count = of.outputs.size() / (withMasters ? 4 : 3);
  const auto part = [count](const std::vector<Tensor>& list, size_t which) {
    return std::vector<Tensor>(list.begin() + which * count, list.begin() + (which + 1) * count);
  };
  return {part(of.outputs, 0),
          part(of.inputs, 0),
          part(of.outputs, 1),
          part(of.outputs, 2),
          withMasters ? part(of.outputs, 3) : std::vector<Tensor>(),
          of.inputs[count]};
}

// Checks and launches a step with two moments; `run` is the backend's part. The learning rate and the step vary.
template <class Run>
void momentStep(const char* op, const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
                const std::vector<Tensor>& m, const std::vector<Tensor>& v, const std::vector<Tensor>& masters,
                const OptionalTensor& gradScale, double learningRate, double beta1, double beta2, double eps,
                double weightDecay, int64_t step, Run run) {
  checkCount(op, "grads", grads, params.size());
  checkCount(op, "m", m, params.size());
  checkCount(op, "v", v, params.size());
  if (!masters.empty()) checkCount(op, "masters", masters, params.size());
  checkNonNegative(op, "weightDecay", weightDecay);
  checkPositive(op, "eps", eps);
  for (const auto& [argument, beta] : {std::pair{"beta1", beta1}, std::pair{"beta2", beta2}}) {
    if (!(beta >= 0 && beta < 1)) fail(ErrorCode::Argument, op, argument, " must be in [0, 1), got ", beta);
  }
  const auto checkNumbers = [op](const Numbers& numbers) {
    checkNonNegative(op, "learningRate", numbers[0]);
    if (!(numbers[1] >= 1)) fail(ErrorCode::Argument, op, "step must be at least 1, got ", numbers[1]);
  };
  const Numbers numbers{learningRate, static_cast<double>(step)};
  if (params.empty()) return checkNumbers(numbers);
  Device& device = params[0].device();
  for (size_t i = 0; i < params.size(); ++i) {
    checkFloating(op, "params", params[i]);
    checkDevice(op, "params", params[i], device);
    checkSame(op, "grads", grads[i], params[i]);
    for (const auto& [argument, moment] : {std::pair{"m", m[i]}, std::pair{"v", v[i]}}) {
      checkDevice(op, argument, moment, device);
      checkDType(op, argument, moment, statisticsDType(params[i].dtype()));
      checkShape(op, argument, moment, params[i].shape());
    }
    if (!masters.empty()) {
      checkDevice(op, "masters", masters[i], device);
      checkDType(op, "masters", masters[i], statisticsDType(params[i].dtype()));
      checkShape(op, "masters", masters[i], params[i].shape());
    }
  }
  if (gradScale) {
    checkDevice(op, "gradScale", gradScale, device);
    checkDType(op, "gradScale", gradScale, DType::Float32);
    checkShape(op, "gradScale", gradScale, {});
  }
  std::vector<Tensor> outputs = params, inputs = grads;
  append(outputs, m);
  append(outputs, v);
  append(outputs, masters);
  inputs.push_back(gradScale);
  append(inputs, outputs);
  launchVarying(op, device, std::move(outputs), std::move(inputs), numbers, checkNumbers,
                [run, withMasters = !masters.empty()](Backend& backend, const Operands& of, const Numbers& varying) {
                  run(backend, momentTensors(of, withMasters), varying[0], static_cast<int64_t>(varying[1]));
                });
}

}  // namespace

void adamwStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
               const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const OptionalTensor& gradScale,
               double learningRate, double beta1, double beta2, double eps, double weightDecay, int64_t step) {
  momentStep("adamwStep", params, grads, m, v, masters, gradScale, learningRate, beta1, beta2, eps, weightDecay, step,
             [=](Backend& backend, const MomentTensors& of, double rate, int64_t count) {
               backend.adamwStep(of.params, of.grads, of.m, of.v, of.masters, of.gradScale, rate, beta1, beta2, eps,
                                 weightDecay, count);
             });
}

void radamStep(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& m,
               const std::vector<Tensor>& v, const std::vector<Tensor>& masters, const OptionalTensor& gradScale,
               double learningRate, double beta1, double beta2, double eps, double weightDecay, bool decoupled,
               int64_t step) {
  momentStep("radamStep", params, grads, m, v, masters, gradScale, learningRate, beta1, beta2, eps, weightDecay, step,
             [=](Backend& backend, const MomentTensors& of, double rate, int64_t count) {
               backend.radamStep(of.params, of.grads, of.m, of.v, of.masters, of.gradScale, rate, beta1, beta2, eps,
                                 weightDecay, decoupled, count);
             });
}

void emaUpdate(const std::vector<Tensor>& averages, const std::vector<Tensor>& params, double decay) {
  const char* op = "emaUpdate";
  checkCount(op, "averages", averages, params.size());
  if (!(decay >= 0 && decay <= 1)) fail(ErrorCode::Argument, op, "decay must be in [0, 1], got ", decay);
  if (params.empty()) return;
  Device& device = params[0].device();
  for (size_t i = 0; i < params.size(); ++i) {
    checkFloating(op, "params", params[i]);
    checkFloating(op, "averages", averages[i]);
    checkDevice(op, "params", params[i], device);
    checkDevice(op, "averages", averages[i], device);
    checkShape(op, "averages", averages[i], params[i].shape());
    if (averages[i].dtype() != params[i].dtype()) {
      checkDType(op, "averages", averages[i], statisticsDType(params[i].dtype()));
    }
  }
  std::vector<Tensor> inputs = params;
  append(inputs, averages);
  launch(op, device, averages, inputs, [=](Backend& backend) { backend.emaUpdate(averages, params, decay); });
}

Tensor globalNorm(const std::vector<Tensor>& tensors) {
  const char* op = "globalNorm";
  if (tensors.empty()) fail(ErrorCode::Argument, op, "tensors must hold at least one tensor");
  Device& device = tensors[0].device();
  DType dtype = DType::Float32;
  for (const Tensor& x : tensors) {
    checkFloating(op, "tensors", x);
    checkDevice(op, "tensors", x, device);
    if (x.dtype() == DType::Float64) dtype = DType::Float64;
  }
  const Tensor out = Tensor::empty(device, {}, dtype);
  launch(op, device, {out}, tensors, [=](Backend& backend) { backend.globalNorm(out, tensors); });
  return out;
}

Tensor clipScale(const Tensor& norm, double maxNorm) {
  const char* op = "clipScale";
  checkFloating(op, "norm", norm);
  checkShape(op, "norm", norm, {});
  checkPositive(op, "maxNorm", maxNorm);
  const Tensor out = Tensor::empty(norm.device(), {}, DType::Float32);
  launch(op, norm.device(), {out}, {norm}, [=](Backend& backend) { backend.clipScale(out, norm, maxNorm); });
  return out;
}

void copyInto(const Tensor& target, const Tensor& source) {
  const char* op = "copyInto";
  checkDevice(op, "source", source, target.device());
  checkShape(op, "source", source, target.shape());
  launch(op, target.device(), {target}, {source}, [=](Backend& backend) { backend.copyInto(target, source); });
}

}  // namespace flowmap::ops
