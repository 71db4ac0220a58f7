// Everything JavaScript can call: one line per operation. typings/native.d.ts says the same to TypeScript.
#include <napi.h>

#include "binding/bind.h"
#include "binding/environment.h"
#include "binding/transfer.h"
#include "ops/elementwise.h"
#include "ops/fill.h"
#include "ops/matmul.h"
#include "ops/optim.h"
#include "ops/random.h"

namespace flowmap::binding {
namespace {

void bindElementwise(Napi::Object exports) {
  const auto unary = [&](const char* op, UnaryOp kind) {
    bind(exports, op, {"x"}, [=](const Tensor& x) { return ops::unary(op, kind, x); });
  };
  unary("neg", UnaryOp::Neg);
  unary("abs", UnaryOp::Abs);
  unary("exp", UnaryOp::Exp);
  unary("log", UnaryOp::Log);
  unary("sin", UnaryOp::Sin);
  unary("cos", UnaryOp::Cos);
  unary("tanh", UnaryOp::Tanh);
  unary("sqrt", UnaryOp::Sqrt);
  const auto binary = [&](const char* op, BinaryOp kind) {
    bind(exports, op, {"a", "b"}, [=](const Tensor& a, const Tensor& b) { return ops::binary(op, kind, a, b); });
  };
  binary("add", BinaryOp::Add);
  binary("sub", BinaryOp::Sub);
  binary("mul", BinaryOp::Mul);
  binary("div", BinaryOp::Div);
}

void bindFill(Napi::Object exports) {
  bind(exports, "full", {"device", "shape", "dtype", "value"}, &ops::full);
}

void bindMatmul(Napi::Object exports) {
  bind(exports, "matmul", {"a", "b", "transposeA", "transposeB"}, &ops::matmul);
  bind(exports, "linear", {"x", "weight", "bias"}, &ops::linear);
  bind(exports, "linearJvp", {"x", "weight", "bias", "tx", "tweight", "tbias"}, &ops::linearJvp);
  bind(exports, "linearJvpVjp",
       {"x", "weight", "tx", "tweight", "g", "h", "needX", "needWeight", "needBias", "needTx", "needTweight",
        "needTbias"},
       &ops::linearJvpVjp);
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
  bind(exports, "emaUpdate", {"averages", "params", "decay"}, &ops::emaUpdate);
  bind(exports, "globalNorm", {"tensors"}, &ops::globalNorm);
  bind(exports, "clipScale", {"norm", "maxNorm"}, &ops::clipScale);
  bind(exports, "copyInto", {"target", "source"}, &ops::copyInto);
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Environment(env));
  exports.Set("setErrorFactory", Napi::Function::New(env, [](const Napi::CallbackInfo& info) {
    if (info.Length() == 1 && info[0].IsFunction()) {
      Environment::of(info.Env()).setErrorFactory(info[0].As<Napi::Function>());
    }
  }));
  bindTransfer(exports);
  bindElementwise(exports);
  bindFill(exports);
  bindMatmul(exports);
  bindRandom(exports);
  bindOptim(exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(flowmap, init)

}  // namespace flowmap::binding
