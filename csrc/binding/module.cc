// Everything JavaScript can call: one line per operation. typings/native.d.ts says the same to TypeScript.
#include <napi.h>

#include "binding/bind.h"
#include "binding/environment.h"
#include "binding/transfer.h"
#include "ops/elementwise.h"
#include "ops/fill.h"

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
  return exports;
}

}  // namespace

NODE_API_MODULE(flowmap, init)

}  // namespace flowmap::binding
