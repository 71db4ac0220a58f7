#include "binding/features.h"

#include <dnnl.h>
#include <hwy/highway.h>

#include "binding/bind.h"
#include "core/stream.h"
#include "cpu/threads.h"

namespace flowmap::binding {
namespace {

template <class... Parts>
std::string dotted(const Parts&... parts) {
  std::string text;
  ((text += (text.empty() ? "" : ".") + std::to_string(parts)), ...);
  return text;
}

// -> [oneDNN, Highway, SIMD level]. Of Highway only headers count, so its version is that of the build.
std::tuple<std::string, std::string, std::string> features() {
  const dnnl_version_t* dnnl = dnnl_version();
  return {dotted(dnnl->major, dnnl->minor, dnnl->patch), dotted(HWY_MAJOR, HWY_MINOR, HWY_PATCH), cpu::simdLevel()};
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
  bind(exports, "threads", {}, [] { return static_cast<double>(cpu::threads()); });
  bind(exports, "setThreads", {"n"}, &setThreads);
}

}  // namespace flowmap::binding
