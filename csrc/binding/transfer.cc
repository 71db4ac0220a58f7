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

napi_value readAsync(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  Environment& environment = Environment::of(env);
  try {
    const Tensor x = toTensor(env, {"data", "x"}, argument);
    auto read = std::make_unique<PendingRead>();
    napi_value promise;
    napi_create_promise(env, &read->deferred, &promise);
    environment.mailbox()->expectOne();
    x.device().stream().enqueue(
        makeJob([x, read = std::move(read), mailbox = environment.mailbox()]() mutable noexcept {
          fillRead(*read, x);
          mailbox->post(std::move(read));
        }));
    return promise;
  } catch (const Error& error) {
    napi_throw(env, environment.makeError(error));
  }
  return nullptr;
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

napi_value readSync(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  Environment& environment = Environment::of(env);
  try {
    const Tensor x = toTensor(env, {"dataSync", "x"}, argument);
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
  } catch (const Error& error) {
    napi_throw(env, environment.makeError(error));
  }
  return nullptr;
}

// fromBytes(bytes, shape, dtype, device) -> handle: copies, so that the caller may change its array at once.
napi_value fromBytes(napi_env env, napi_callback_info info) {
  size_t count = 4;
  napi_value arguments[4];
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  Environment& environment = Environment::of(env);
  try {
    const Shape shape = toShape(env, {"tensor", "shape"}, arguments[1]);
    const DType dtype = toDType(env, {"tensor", "dtype"}, arguments[2]);
    Device& device = deviceByName("tensor", toString(env, {"tensor", "device"}, arguments[3]));
    checkSizes("tensor", "shape", shape, dtype);
    const auto [bytes, length] = toBytes(env, {"tensor", "data"}, arguments[0]);
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
    return toJs(env, out);
  } catch (const Error& error) {
    napi_throw(env, environment.makeError(error));
  }
  return nullptr;
}

// info(handle) -> [dtype, device, ...shape]
napi_value tensorInfo(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  try {
    const Tensor x = toTensor(env, {"tensor", "x"}, argument);
    napi_value array;
    napi_create_array_with_length(env, 2 + x.rank(), &array);
    napi_set_element(env, array, 0, toJs(env, std::string(dtypeName(x.dtype()))));
    napi_set_element(env, array, 1, toJs(env, x.device().name()));
    for (int axis = 0; axis < x.rank(); ++axis) {
      napi_set_element(env, array, 2 + axis, toJs(env, static_cast<double>(x.shape()[axis])));
    }
    return array;
  } catch (const Error& error) {
    napi_throw(env, Environment::of(env).makeError(error));
  }
  return nullptr;
}

napi_value dispose(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  double handle = -1;
  if (count == 1) napi_get_value_double(env, argument, &handle);
  return toJs(env, Environment::of(env).erase(handle));
}

// memory(device) -> [live tensors, bytes, peak bytes, cached bytes, limit]
napi_value memory(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  Environment& environment = Environment::of(env);
  try {
    const MemoryFigures figures =
        deviceByName("memory", toString(env, {"memory", "device"}, argument)).allocator().figures();
    return toJs(
        env, std::vector<double>{static_cast<double>(environment.handles().live()), static_cast<double>(figures.bytes),
                                 static_cast<double>(figures.peakBytes), static_cast<double>(figures.cachedBytes),
                                 static_cast<double>(figures.limitBytes)});
  } catch (const Error& error) {
    napi_throw(env, environment.makeError(error));
  }
  return nullptr;
}

// synchronize(device) -> a promise of an empty buffer, when all enqueued before has run
napi_value synchronize(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  Environment& environment = Environment::of(env);
  try {
    Device& device = deviceByName("synchronize", toString(env, {"synchronize", "device"}, argument));
    auto read = std::make_unique<PendingRead>();
    read->op = "synchronize";
    napi_value promise;
    napi_create_promise(env, &read->deferred, &promise);
    environment.mailbox()->expectOne();
    device.stream().enqueue(makeJob([read = std::move(read), mailbox = environment.mailbox()]() mutable noexcept {
      mailbox->post(std::move(read));
    }));
    return promise;
  } catch (const Error& error) {
    napi_throw(env, environment.makeError(error));
  }
  return nullptr;
}

napi_value synchronizeSync(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  try {
    waitFor(env, deviceByName("synchronizeSync", toString(env, {"synchronizeSync", "device"}, argument)));
  } catch (const Error& error) {
    napi_throw(env, Environment::of(env).makeError(error));
  }
  return nullptr;
}

void define(Napi::Object exports, const char* name, napi_callback callback) {
  napi_value value;
  napi_create_function(exports.Env(), name, NAPI_AUTO_LENGTH, callback, nullptr, &value);
  napi_set_named_property(exports.Env(), exports, name, value);
}

}  // namespace

void bindTransfer(Napi::Object exports) {
  define(exports, "fromBytes", fromBytes);
  define(exports, "read", readAsync);
  define(exports, "readSync", readSync);
  define(exports, "info", tensorInfo);
  define(exports, "dispose", dispose);
  define(exports, "memory", memory);
  define(exports, "synchronize", synchronize);
  define(exports, "synchronizeSync", synchronizeSync);
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
