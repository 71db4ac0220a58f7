#include "binding/transfer.h"

#include <cstring>

#include "binding/bind.h"
#include "core/check.h"
#include "core/stream.h"

namespace flowmap::binding {
namespace {

// The bytes behind a typed array, DataView or ArrayBuffer.
std::pair<const void*, size_t> toBytes(napi_env env, ArgumentName name, napi_value value) {
  void* data = nullptr;
  size_t length = 0;
  bool is = false;
  if (napi_is_typedarray(env, value, &is) == napi_ok && is) {
    napi_typedarray_type type;
    size_t elements = 0;
    napi_get_typedarray_info(env, value, &type, &elements, &data, nullptr, nullptr);
    switch (type) {
      case napi_int8_array:
      case napi_uint8_array:
      case napi_uint8_clamped_array:
        length = elements;
        break;
      case napi_int16_array:
      case napi_uint16_array:
        length = elements * 2;
        break;
      case napi_int32_array:
      case napi_uint32_array:
      case napi_float32_array:
        length = elements * 4;
        break;
      default:
        length = elements * 8;
        break;
    }
    return {data, length};
  }
  if (napi_is_arraybuffer(env, value, &is) == napi_ok && is) {
    napi_get_arraybuffer_info(env, value, &data, &length);
    return {data, length};
  }
  failArgument(env, name, "a typed array or an ArrayBuffer", value);
}

// On the stream's thread.
void fillRead(PendingRead& read, const Tensor& x) {
  if (x.storage()->error()) {
    read.error = x.storage()->error();
    return;
  }
  try {
    read.bytes.resize(x.bytes());
  } catch (const std::bad_alloc&) {
    read.error = std::make_shared<const Error>(ErrorCode::OutOfMemory, read.op, "no host memory for the copy");
    return;
  }
  if (!read.bytes.empty()) std::memcpy(read.bytes.data(), x.data(), read.bytes.size());
}

// A promise of the bytes.
napi_value readAsync(napi_env env, const Tensor& x) {
  Environment& environment = Environment::of(env);
  auto read = std::make_unique<PendingRead>();
  napi_value promise;
  napi_create_promise(env, &read->deferred, &promise);
  environment.mailbox()->expectOne();
  x.device().stream().enqueue(makeJob([x, read = std::move(read), mailbox = environment.mailbox()]() mutable noexcept {
    fillRead(*read, x);
    mailbox->post(std::move(read));
  }));
  return promise;
}

// Blocks until `device` has caught up. False when this JavaScript thread is told to end meanwhile (`process.exit` on
// the main thread, `worker.terminate`), which would otherwise wait for the whole queue: calls into JavaScript fail from
// then on.
bool waitFor(napi_env env, Device& device) {
  napi_value undefined;
  napi_get_undefined(env, &undefined);
  return device.stream().synchronize([env, undefined] {
    napi_value ignored;
    return napi_coerce_to_bool(env, undefined, &ignored) != napi_ok;
  });
}

napi_value readSync(napi_env env, const Tensor& x) {
  if (!waitFor(env, x.device())) return nullptr;
  if (x.storage()->error()) throw *x.storage()->error();
  void* target = nullptr;
  napi_value buffer;
  if (napi_create_arraybuffer(env, x.bytes(), &target, &buffer) != napi_ok) {
    napi_value ignored;
    napi_get_and_clear_last_exception(env, &ignored);
    fail(ErrorCode::OutOfMemory, "dataSync", "JavaScript cannot hold an array of ", x.bytes(), " bytes");
  }
  if (x.bytes()) std::memcpy(target, x.data(), x.bytes());
  return buffer;
}

// Copies, so that the caller may change its array at once. Nothing may run JavaScript once the bytes are known.
Tensor fromBytes(const Napi::Value& data, const Shape& shape, DType dtype, Device& device) {
  checkSizes("tensor", "shape", shape, dtype);
  const auto [bytes, length] = toBytes(data.Env(), {"tensor", "data"}, data);
  const Tensor out = Tensor::empty(device, shape, dtype);
  if (length != out.bytes()) {
    fail(ErrorCode::Shape, "tensor", "data must have ", out.bytes(), " bytes for shape ", shape, " of ",
         dtypeName(dtype), ", got ", length);
  }
  try {
    out.storage()->materialize();  // no job knows this storage yet
  } catch (const Error& error) {
    throw Error(error.code(), "tensor", error.detail());
  }
  if (length) std::memcpy(out.data(), bytes, length);
  return out;
}

// [dtype, device, ...shape]
napi_value tensorInfo(napi_env env, const Tensor& x) {
  napi_value array;
  napi_create_array_with_length(env, 2 + x.rank(), &array);
  napi_set_element(env, array, 0, toJs(env, std::string(dtypeName(x.dtype()))));
  napi_set_element(env, array, 1, toJs(env, x.device().name()));
  for (int axis = 0; axis < x.rank(); ++axis) {
    napi_set_element(env, array, 2 + axis, toJs(env, static_cast<double>(x.shape()[axis])));
  }
  return array;
}

// Whether there was such a handle; anything may be asked.
bool dispose(const Napi::Value& handle) {
  double number = -1;
  napi_get_value_double(handle.Env(), handle, &number);
  return Environment::of(handle.Env()).erase(number);
}

// [live tensors, bytes, peak bytes, cached bytes, limit]
std::vector<double> memory(napi_env env, Device& device) {
  const MemoryFigures figures = device.allocator().figures();
  return {static_cast<double>(Environment::of(env).handles().live()), static_cast<double>(figures.bytes),
          static_cast<double>(figures.peakBytes), static_cast<double>(figures.cachedBytes),
          static_cast<double>(figures.limitBytes)};
}

// A promise of an empty buffer, when all enqueued before has run.
napi_value synchronize(napi_env env, Device& device) {
  Environment& environment = Environment::of(env);
  auto read = std::make_unique<PendingRead>();
  read->op = "synchronize";
  napi_value promise;
  napi_create_promise(env, &read->deferred, &promise);
  environment.mailbox()->expectOne();
  device.stream().enqueue(makeJob([read = std::move(read), mailbox = environment.mailbox()]() mutable noexcept {
    mailbox->post(std::move(read));
  }));
  return promise;
}

}  // namespace

void bindTransfer(Napi::Object exports) {
  const napi_env env = exports.Env();
  bind(exports, {"fromBytes", "tensor"}, {"data", "shape", "dtype", "device"}, &fromBytes);
  bind(exports, {"read", "data"}, {"x"}, [env](const Tensor& x) { return readAsync(env, x); });
  bind(exports, {"readSync", "dataSync"}, {"x"}, [env](const Tensor& x) { return readSync(env, x); });
  bind(exports, {"info", "tensor"}, {"x"}, [env](const Tensor& x) { return tensorInfo(env, x); });
  bind(exports, "dispose", {"handle"}, &dispose);
  bind(exports, "memory", {"device"}, [env](Device& device) { return memory(env, device); });
  bind(exports, "synchronize", {"device"}, [env](Device& device) { return synchronize(env, device); });
  bind(exports, "synchronizeSync", {"device"}, [env](Device& device) { waitFor(env, device); });
  bind(exports, "emptyCache", {"device"}, [](Device& device) { device.allocator().emptyCache(); });
  bind(exports, "resetPeakMemory", {"device"}, [](Device& device) { device.allocator().resetPeak(); });
  bind(exports, "setMemoryLimit", {"device", "bytes"}, [](Device& device, double bytes) {
    checkPositive("setMemoryLimit", "bytes", bytes);
    device.allocator().setLimit(static_cast<size_t>(std::min(bytes, 0x1p62)));
  });
  // A second handle of the same storage.
  bind(exports, "share", {"x"}, [](const Tensor& x) { return x; });
}

}  // namespace flowmap::binding
