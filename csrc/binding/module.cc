// Everything JavaScript can call: one line per operation. typings/native.d.ts says the same to TypeScript.
#include <napi.h>

#include "binding/bind.h"
#include "binding/collector.h"
#include "binding/environment.h"
#include "binding/events.h"
#include "binding/features.h"
#include "binding/graph.h"
#include "binding/transfer.h"
#include "ops/activation.h"
#include "ops/attention.h"
#include "ops/elementwise.h"
#include "ops/fill.h"
#include "ops/gather.h"
#include "ops/matmul.h"
#include "ops/mmd.h"
#include "ops/norm.h"
#include "ops/optim.h"
#include "ops/random.h"
#include "ops/reduce.h"
#include "ops/shape.h"

namespace flowmap::binding {
namespace {

void bindElementwise(Napi::Object exports) {
  const auto unary = [&](const char* op, UnaryOp kind) {
    bind(exports, op, {"x"}, [=](const Tensor& x) { return ops::unary(op, kind, x); });
  };
  unary("neg", UnaryOp::Neg);
  unary("abs", UnaryOp::Abs);
  unary("sign", UnaryOp::Sign);
  unary("square", UnaryOp::Square);
  unary("sqrt", UnaryOp::Sqrt);
  unary("rsqrt", UnaryOp::Rsqrt);
  unary("reciprocal", UnaryOp::Reciprocal);
  unary("exp", UnaryOp::Exp);
  unary("expm1", UnaryOp::Expm1);
  unary("log", UnaryOp::Log);
  unary("log1p", UnaryOp::Log1p);
  unary("sin", UnaryOp::Sin);
  unary("cos", UnaryOp::Cos);
  unary("tanh", UnaryOp::Tanh);
  unary("sigmoid", UnaryOp::Sigmoid);
  unary("floor", UnaryOp::Floor);
  unary("logicalNot", UnaryOp::LogicalNot);
  // A handle is a number, so what takes a scalar has a name of its own: addScalar(a, 2), scalarSub(2, b).
  const auto binary = [&](const char* op, BinaryOp kind, const char* scalarLast, const char* scalarFirst) {
    bind(exports, op, {"a", "b"}, [=](const Tensor& a, const Tensor& b) { return ops::binary(op, kind, a, b); });
    bind(exports, scalarLast, {"a", "b"},
         [=](const Tensor& a, double b) { return ops::binaryScalar(op, kind, a, b, false); });
    if (!scalarFirst) return;
    bind(exports, scalarFirst, {"a", "b"},
         [=](double a, const Tensor& b) { return ops::binaryScalar(op, kind, b, a, true); });
  };
  binary("add", BinaryOp::Add, "addScalar", nullptr);
  binary("sub", BinaryOp::Sub, "subScalar", "scalarSub");
  binary("mul", BinaryOp::Mul, "mulScalar", nullptr);
  binary("div", BinaryOp::Div, "divScalar", "scalarDiv");
  binary("pow", BinaryOp::Pow, "powScalar", "scalarPow");
  binary("maximum", BinaryOp::Maximum, "maximumScalar", nullptr);
  binary("minimum", BinaryOp::Minimum, "minimumScalar", nullptr);
  const auto compare = [&](const char* op, CompareOp kind, const char* scalarLast) {
    bind(exports, op, {"a", "b"}, [=](const Tensor& a, const Tensor& b) { return ops::compare(op, kind, a, b); });
    bind(exports, scalarLast, {"a", "b"},
         [=](const Tensor& a, double b) { return ops::compareScalar(op, kind, a, b); });
  };
  compare("equal", CompareOp::Equal, "equalScalar");
  compare("notEqual", CompareOp::NotEqual, "notEqualScalar");
  compare("less", CompareOp::Less, "lessScalar");
  compare("lessEqual", CompareOp::LessEqual, "lessEqualScalar");
  compare("greater", CompareOp::Greater, "greaterScalar");
  compare("greaterEqual", CompareOp::GreaterEqual, "greaterEqualScalar");
  bind(exports, "where", {"condition", "a", "b", "aValue", "bValue"}, &ops::where);
  bind(exports, "clamp", {"x", "low", "high"}, &ops::clamp);
  bind(exports, "cast", {"x", "dtype"}, &ops::cast);
}

void bindCheck(Napi::Object exports) { bind(exports, "checkFinite", {"x", "what"}, &ops::checkFinite); }

void bindFill(Napi::Object exports) {
  bind(exports, "full", {"device", "shape", "dtype", "value"}, &ops::full);
  bind(exports, "arange", {"device", "start", "stop", "step", "dtype"}, &ops::arange);
  bind(exports, "eye", {"device", "rows", "columns", "dtype"}, &ops::eye);
}

void bindReduce(Napi::Object exports) {
  const auto reduce = [&](const char* op, ReduceOp kind) {
    bind(exports, op, {"x", "axes", "keepDims"}, [=](const Tensor& x, const std::vector<int64_t>& axes, bool keepDims) {
      return ops::reduce(op, kind, x, axes, keepDims);
    });
  };
  reduce("sum", ReduceOp::Sum);
  reduce("mean", ReduceOp::Mean);
  reduce("max", ReduceOp::Max);
  reduce("min", ReduceOp::Min);
  bind(exports, "any", {"x", "axes", "keepDims"}, &ops::any);
  bind(exports, "all", {"x", "axes", "keepDims"}, &ops::all);
  const auto argReduce = [&](const char* op, ArgReduceOp kind) {
    bind(exports, op, {"x", "axis", "keepDims"},
         [=](const Tensor& x, int64_t axis, bool keepDims) { return ops::argReduce(op, kind, x, axis, keepDims); });
  };
  argReduce("argmax", ArgReduceOp::ArgMax);
  argReduce("argmin", ArgReduceOp::ArgMin);
  bind(exports, "sumTo", {"x", "shape"}, &ops::sumTo);
}

void bindShape(Napi::Object exports) {
  bind(exports, "reshape", {"x", "shape"}, &ops::reshape);
  bind(exports, "copy", {"x"}, &ops::copy);
  bind(exports, "permute", {"x", "axes"}, &ops::permute);
  bind(exports, "slice", {"x", "begin", "end", "step"}, &ops::slice);
  bind(exports, "sliceVjp", {"g", "shape", "begin", "step"}, &ops::sliceVjp);
  bind(exports, "split", {"x", "sizes", "axis"}, &ops::split);
  bind(exports, "concat", {"tensors", "axis"}, &ops::concat);
  bind(exports, "pad", {"x", "before", "after", "value"}, &ops::pad);
  bind(exports, "broadcastTo", {"x", "shape"}, &ops::broadcastTo);
  bind(exports, "flip", {"x", "axes"}, &ops::flip);
}

void bindGather(Napi::Object exports) {
  bind(exports, "take", {"x", "indices", "axis"}, &ops::take);
  bind(exports, "takeVjp", {"g", "indices", "shape", "axis"}, &ops::takeVjp);
  bind(exports, "oneHot", {"indices", "depth", "dtype"}, &ops::oneHot);
}

void bindMatmul(Napi::Object exports) {
  bind(exports, "matmul", {"a", "b", "transposeA", "transposeB"}, &ops::matmul);
  bind(exports, "linear", {"x", "weight", "bias"}, &ops::linear);
  bind(exports, "linearJvp", {"x", "weight", "bias", "tx", "tweight", "tbias"}, &ops::linearJvp);
  bind(exports, "linearJvpVjp",
       {"x", "weight", "tx", "tweight", "g", "h", "needX", "needWeight", "needBias", "needTx", "needTweight",
        "needTbias"},
       &ops::linearJvpVjp);
  bind(exports, BoundName("allowTf32", "setMatmulPrecision"), {"device", "allowed"}, &ops::allowTf32);
}

void bindRandom(Napi::Object exports) {
  bind(exports, "randomUniform", {"device", "shape", "dtype", "seed", "offset", "low", "high"}, &ops::randomUniform);
  bind(exports, "randomNormal", {"device", "shape", "dtype", "seed", "offset"}, &ops::randomNormal);
  bind(exports, "randomIntegers", {"device", "shape", "seed", "offset", "low", "high"}, &ops::randomIntegers);
  bind(exports, "randomPermutation", {"device", "n", "seed", "offset"}, &ops::randomPermutation);
  bind(exports, "randomBlocks", {"n", "dtype"}, &ops::randomBlocks);
  bind(exports, "hostUniform", {"seed", "offset", "n"}, &ops::hostUniform);
  bind(exports, "hostNormal", {"seed", "offset", "n"}, &ops::hostNormal);
}

void bindOptim(Napi::Object exports) {
  bind(exports, "adamwStep",
       {"params", "grads", "m", "v", "masters", "gradScale", "learningRate", "beta1", "beta2", "eps", "weightDecay",
        "step"},
       &ops::adamwStep);
  bind(exports, "radamStep",
       {"params", "grads", "m", "v", "masters", "gradScale", "learningRate", "beta1", "beta2", "eps", "weightDecay",
        "decoupled", "step"},
       &ops::radamStep);
  bind(exports, "emaUpdate", {"averages", "params", "decay"}, &ops::emaUpdate);
  bind(exports, "globalNorm", {"tensors"}, &ops::globalNorm);
  bind(exports, "clipScale", {"norm", "maxNorm"}, &ops::clipScale);
  bind(exports, "copyInto", {"target", "source"}, &ops::copyInto);
}

void bindAttention(Napi::Object exports) {
  bind(exports, "attention",
       {"q", "k", "v", "weights", "sequences", "layout", "causal", "scale", "normalize", "eps", "centerKeys"},
       &ops::attention);
  bind(exports, "attentionJvp",
       {"q", "k", "v", "tq", "tk", "tv", "weights", "sequences", "layout", "causal", "scale", "normalize", "eps",
        "centerKeys"},
       &ops::attentionJvp);
  bind(exports, "attentionJvpVjp", {"q",      "k",      "v",     "tq",        "tk",  "tv",         "o",
                                    "to",     "lse",    "mu",    "g",         "h",   "weights",    "sequences",
                                    "layout", "causal", "scale", "normalize", "eps", "centerKeys", "deterministic",
                                    "needs"},
       &ops::attentionJvpVjp);
}

void bindNorm(Napi::Object exports) {
  bind(exports, "rmsNorm", {"x", "weight", "eps"}, &ops::rmsNorm);
  bind(exports, "rmsNormJvp", {"x", "weight", "tx", "tweight", "eps"}, &ops::rmsNormJvp);
  bind(exports, "rmsNormJvpVjp",
       {"x", "weight", "tx", "tweight", "g", "h", "eps", "needX", "needWeight", "needTx", "needTweight"},
       &ops::rmsNormJvpVjp);
  bind(exports, "rmsNormModulate", {"x", "shift", "scale", "eps"}, &ops::rmsNormModulate);
  bind(exports, "rmsNormModulateJvp", {"x", "shift", "scale", "tx", "tshift", "tscale", "eps"},
       &ops::rmsNormModulateJvp);
  bind(exports, "rmsNormModulateJvpVjp",
       {"x", "scale", "tx", "tscale", "g", "h", "eps", "needX", "needShift", "needScale", "needTx", "needTshift",
        "needTscale"},
       &ops::rmsNormModulateJvpVjp);
  bind(exports, "layerNorm", {"x", "weight", "bias", "eps"}, &ops::layerNorm);
  bind(exports, "layerNormJvp", {"x", "weight", "bias", "tx", "tweight", "tbias", "eps"}, &ops::layerNormJvp);
  bind(exports, "layerNormJvpVjp",
       {"x", "weight", "tx", "tweight", "g", "h", "eps", "needX", "needWeight", "needBias", "needTx", "needTweight",
        "needTbias"},
       &ops::layerNormJvpVjp);
  bind(exports, "layerNormModulate", {"x", "shift", "scale", "eps"}, &ops::layerNormModulate);
  bind(exports, "layerNormModulateJvp", {"x", "shift", "scale", "tx", "tshift", "tscale", "eps"},
       &ops::layerNormModulateJvp);
  bind(exports, "layerNormModulateJvpVjp",
       {"x", "scale", "tx", "tscale", "g", "h", "eps", "needX", "needShift", "needScale", "needTx", "needTshift",
        "needTscale"},
       &ops::layerNormModulateJvpVjp);
  bind(exports, "gatedResidual", {"x", "gate", "z"}, &ops::gatedResidual);
  bind(exports, "gatedResidualJvp", {"x", "gate", "z", "tx", "tgate", "tz"}, &ops::gatedResidualJvp);
  bind(exports, "gatedResidualJvpVjp",
       {"gate", "z", "tgate", "tz", "g", "h", "needGate", "needZ", "needTgate", "needTz"}, &ops::gatedResidualJvpVjp);
  bind(exports, "splitQkv", {"qkv", "qWeight", "kWeight", "heads", "normalize", "eps"}, &ops::splitQkv);
  bind(exports, "splitQkvJvp",
       {"qkv", "qWeight", "kWeight", "tqkv", "tqWeight", "tkWeight", "heads", "normalize", "eps"}, &ops::splitQkvJvp);
  bind(
      exports, "splitQkvJvpVjp",
      {"qkv", "qWeight", "kWeight", "tqkv", "tqWeight", "tkWeight", "cotangents", "heads", "normalize", "eps", "needs"},
      &ops::splitQkvJvpVjp);
  bind(exports, "softmax", {"x"}, &ops::softmax);
}

void bindActivation(Napi::Object exports) {
  const auto activation = [&](const char* op, const char* opJvp, const char* opJvpVjp, ActivationOp kind) {
    bind(exports, op, {"x"}, [=](const Tensor& x) { return ops::activation(op, kind, x); });
    bind(exports, opJvp, {"x", "tx"},
         [=](const Tensor& x, const Tensor& tx) { return ops::activationJvp(opJvp, kind, x, tx); });
    bind(exports, opJvpVjp, {"x", "tx", "g", "h", "needX", "needTx"},
         [=](const Tensor& x, const OptionalTensor& tx, const OptionalTensor& g, const OptionalTensor& h, bool needX,
             bool needTx) { return ops::activationJvpVjp(opJvpVjp, kind, x, tx, g, h, needX, needTx); });
  };
  activation("gelu", "geluJvp", "geluJvpVjp", ActivationOp::Gelu);
  activation("silu", "siluJvp", "siluJvpVjp", ActivationOp::Silu);
}

void bindMmd(Napi::Object exports) {
  bind(exports, "mmd", {"x", "y", "weight", "lossWeight", "kernel", "bandwidths", "eps", "unbiased"}, &ops::mmd);
  bind(exports, "mmdJvp", {"x", "y", "weight", "lossWeight", "tx", "ty", "kernel", "bandwidths", "eps", "unbiased"},
       &ops::mmdJvp);
  bind(exports, "mmdVjp",
       {"x", "y", "weight", "lossWeight", "g", "kernel", "bandwidths", "eps", "unbiased", "needX", "needY"},
       &ops::mmdVjp);
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Environment(env));
  exports.Set("setErrorFactory", Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
                if (info.Length() == 1 && info[0].IsFunction()) {
                  Environment::of(info.Env()).setErrorFactory(info[0].As<Napi::Function>());
                }
              }));
  bindTransfer(exports);
  bindCollector(exports);
  bindFeatures(exports);
  bindElementwise(exports);
  bindCheck(exports);
  bindFill(exports);
  bindMatmul(exports);
  bindAttention(exports);
  bindNorm(exports);
  bindActivation(exports);
  bindRandom(exports);
  bindOptim(exports);
  bindReduce(exports);
  bindShape(exports);
  bindGather(exports);
  bindMmd(exports);
  bindGraph(exports);
  bindEvents(exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(flowmap, init)

}  // namespace flowmap::binding
