#include "binding/collector.h"

#include "binding/bind.h"

// By the engine's own finalisers, not a FinalizationRegistry of JavaScript. V8 runs none of these any more once one has
// died with calls outstanding, as those of a realm that ends may; and one frees nothing of what dies together with it.
namespace flowmap::binding {
namespace {

using Finalizer = void (*)(napi_env env, void* number, void*);

double numberOf(void* data) { return static_cast<double>(reinterpret_cast<uintptr_t>(data)); }

// Handles carry a generation and recordings are numbered once, so that what was disposed of before is left alone.
void eraseTensor(napi_env env, void* handle, void*) { Environment::of(env).erase(numberOf(handle)); }
void eraseRecording(napi_env env, void* number, void*) { Environment::of(env).eraseRecording(numberOf(number)); }

// Calls `finalizer` with a number of at most 53 bits after the collector has found `object`, at the latest when the
// environment ends.
void finalize(ArgumentName name, const Napi::Value& object, double number, Finalizer finalizer, napi_ref* watcher) {
  const napi_env env = object.Env();
  napi_valuetype type;
  napi_typeof(env, object, &type);
  if (type != napi_object && type != napi_function) failArgument(env, name, "an object", object);
  void* data = reinterpret_cast<void*>(static_cast<uintptr_t>(number));
  if (napi_add_finalizer(env, object, data, finalizer, nullptr, watcher) != napi_ok) {
    fail(ErrorCode::Internal, name.op, "the collector does not take ", name.argument);
  }
}

// With this tensor its handle goes, too.
void watch(const Napi::Value& tensor, double handle) {
  HandleTable& handles = Environment::of(tensor.Env()).handles();
  if (!handles.find(handle)) {
    fail(ErrorCode::Disposed, "tensor", "handle must be of a live tensor, got one that was disposed");
  }
  napi_ref watcher = nullptr;
  finalize({"tensor", "tensor"}, tensor, handle, &eraseTensor, &watcher);
  handles.setWatcher(handle, watcher);
}

// With this step its recording goes, too.
void graphWatch(const Napi::Value& step, double recording) {
  static_cast<void>(Environment::of(step.Env()).recording(recording));
  finalize({"captureGraph", "step"}, step, recording, &eraseRecording, nullptr);
}

}  // namespace

void bindCollector(Napi::Object exports) {
  bind(exports, {"watch", "tensor"}, {"tensor", "handle"}, &watch);
  bind(exports, {"graphWatch", "captureGraph"}, {"step", "recording"}, &graphWatch);
}

}  // namespace flowmap::binding
