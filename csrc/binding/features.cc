#include "binding/features.h"

#include <dnnl.h>
#include <hwy/highway.h>

#include "binding/bind.h"
#include "core/cuda_library.h"
#include "core/stream.h"
#include "cpu/onednn_product.h"
#include "cpu/threads.h"

namespace flowmap::binding {
namespace {

template <class... Parts>
std::string dotted(const Parts&... parts) {
  std::string text;
  ((text += (text.empty() ? "" : ".") + std::to_string(parts)), ...);
  return text;
}

// -> [oneDNN, Highway, SIMD level, multiplies bfloat16]. Of Highway only headers count, so its version is that of the
// build.
std::tuple<std::string, std::string, std::string, bool> features() {
  const dnnl_version_t* dnnl = dnnl_version();
  return {dotted(dnnl->major, dnnl->minor, dnnl->patch), dotted(HWY_MAJOR, HWY_MINOR, HWY_PATCH), cpu::simdLevel(),
          cpu::multipliesBFloat16()};
}

// {path, reason, emulated, targets, toolkit, driver, why, devices: [{name, memoryBytes, l2Bytes, major, minor}]}. Opens
// the CUDA library; `reason` says why it could not be, `why` why there is no device.
Napi::Value cuda(napi_env env) {
  const CudaLibrary& found = cudaLibrary();
  auto report = Napi::Object::New(env);
  report.Set("path", found.path);
  report.Set("reason", found.reason);
  report.Set("emulated", found.emulated);
  auto devices = Napi::Array::New(env);
  report.Set("devices", devices);
  if (!found.library) return report;
  std::string why;
  const int count = found.library->count(why);
  report.Set("targets", found.library->targets);
  report.Set("toolkit", found.library->runtimeVersion);
  report.Set("driver", found.library->driverVersion());
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    DeviceFacts facts;
    try {
      facts = found.library->describe(ordinal);
    } catch (const Error& error) {
      why = error.detail();
      break;
    }
    auto device = Napi::Object::New(env);
    device.Set("name", facts.name);
    device.Set("memoryBytes", static_cast<double>(facts.memoryBytes));
    device.Set("l2Bytes", static_cast<double>(facts.l2Bytes));
    device.Set("major", facts.major);
    device.Set("minor", facts.minor);
    devices.Set(static_cast<uint32_t>(ordinal), device);
  }
  report.Set("why", why);
  return report;
}

// -> [path, version, reason] of cuBLAS, which is opened; empty without a CUDA library.
std::tuple<std::string, std::string, std::string> cublas() {
  const CudaLibrary& found = cudaLibrary();
  if (!found.library) return {};
  const ProductLibrary products = found.library->products();
  return {products.path, products.version, products.reason};
}

void setThreads(int64_t count) {
  if (count < 1 || count > cpu::kMaxThreads) {
    fail(ErrorCode::Argument, "setThreads", "n must be an integer from 1 to ", cpu::kMaxThreads, ", got ", count);
  }
  cpu::setThreads(count);
  deviceByName("setThreads", "cpu").stream().enqueue(makeJob([count]() noexcept { cpu::applyThreads(count); }));
}

}  // namespace

void bindFeatures(Napi::Object exports) {
  bind(exports, "features", {}, &features);
  bind(exports, "cuda", {},
       [env = static_cast<napi_env>(exports.Env())] { return static_cast<napi_value>(cuda(env)); });
  bind(exports, "cublas", {}, &cublas);
  bind(exports, "stopDevicesForExit", {}, &stopDevicesForExit);
  bind(exports, "threads", {}, [] { return static_cast<double>(cpu::threads()); });
  bind(exports, "setThreads", {"n"}, &setThreads);
}

}  // namespace flowmap::binding
