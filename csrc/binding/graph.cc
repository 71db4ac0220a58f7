#include "binding/graph.h"

#include "binding/bind.h"
#include "core/recording.h"

namespace flowmap::binding {
namespace {

// [number, ...inputs]; nothing where the thread is told to end while another records.
napi_value begin(napi_env env, Device& device, const std::vector<Tensor>& examples) {
  const std::shared_ptr<Recording> recording = Recording::start(device, examples, toldToEnd(env));
  if (!recording) return nullptr;
  napi_value array;
  napi_create_array_with_length(env, 1 + examples.size(), &array);
  napi_set_element(env, array, 0, toJs(env, Environment::of(env).insert(recording)));
  for (size_t i = 0; i < examples.size(); ++i) {
    napi_set_element(env, array, static_cast<uint32_t>(1 + i), toJs(env, recording->inputs()[i]));
  }
  return array;
}

// What failed leaves nothing behind.
void end(napi_env env, double number, const std::vector<Tensor>& outputs) {
  Environment& environment = Environment::of(env);
  try {
    environment.recording(number)->finish(outputs, environment.handles().tensors(), toldToEnd(env));
  } catch (const Error&) {
    environment.eraseRecording(number);
    throw;
  }
}

}  // namespace

void bindGraph(Napi::Object exports) {
  const napi_env env = exports.Env();
  bind(exports, {"graphDevice", "captureGraph"}, {"device"}, [](Device& device) { return device.name(); });
  bind(exports, {"graphBegin", "captureGraph"}, {"device", "examples"},
       [env](Device& device, const std::vector<Tensor>& examples) { return begin(env, device, examples); });
  bind(exports, {"graphEnd", "captureGraph"}, {"recording", "outputs"},
       [env](double number, const std::vector<Tensor>& outputs) { end(env, number, outputs); });
  bind(exports, {"graphReplay", "captureGraph"}, {"recording", "inputs", "numbers"},
       [env](double number, const std::vector<Tensor>& inputs, const std::vector<double>& numbers) {
         return Environment::of(env).recording(number)->replay(inputs, numbers);
       });
  bind(exports, {"graphDispose", "captureGraph"}, {"recording"},
       [env](double number) { Environment::of(env).eraseRecording(number); });
}

}  // namespace flowmap::binding
