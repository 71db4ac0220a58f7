#include "binding/transfer.h"

#include <cstring>

#include "binding/bind.h"
#include "core/check.h"
#include "core/launch.h"
#include "ops/transfer.h"

namespace flowmap::binding {
namespace {

// The bytes behind a typed array, DataView or ArrayBuffer.
std::pair<const void*, size_t> toBytes(napi_env env, ArgumentName name, napi_value value) {
  void* data = nullptr;
  size_t length = 0;
  bool is = false;
  if (napi_is_typedarray(env, value, &is) == napi_ok && is) {
    napi_typedarray_type type = napi_int8_array;
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

constexpr char kNothingToRead[] = "nothing is computed until it is replayed, so nothing can be read or waited for";

// A promise that `start`, called on the stream's thread with what settles it, is to keep.
template <class Start>
napi_value promiseOf(napi_env env, const char* op, Device& device, Start start) {
  Recording::refuse(op, kNothingToRead);
  Environment& environment = Environment::of(env);
  auto read = std::make_shared<PendingRead>();
  read->op = op;
  napi_value promise;
  napi_create_promise(env, &read->deferred, &promise);
  const auto settle = [read, mailbox = environment.mailbox()](std::shared_ptr<HostBuffer> values,
                                                              std::shared_ptr<const Error> error) {
    read->values = std::move(values);
    read->error = std::move(error);
    mailbox->post(read);
  };
  device.stream().enqueue(makeJob([start = std::move(start), settle]() noexcept { start(settle); }));
  environment.mailbox()->expectOne();  // what comes is settled on this thread, so not before
  return promise;
}

// A promise of the bytes.
napi_value readAsync(napi_env env, const Tensor& x) {
  return promiseOf(env, "data", x.device(),
                   [x](const Arrival& settle) { startDownload("data", x.device().transfer(), x, settle); });
}

// Blocks until what `start` begins on the stream's thread has arrived. Null when the thread is told to end meanwhile.
template <class Start>
std::shared_ptr<Handover> waitFor(napi_env env, const char* op, Device& device, Start start) {
  Recording::refuse(op, kNothingToRead);
  auto handover = std::make_shared<Handover>();
  device.stream().enqueue(makeJob([start = std::move(start), handover]() noexcept {
    start([handover](std::shared_ptr<HostBuffer> values, std::shared_ptr<const Error> error) {
      handover->set(std::move(values), std::move(error));
    });
  }));
  if (!handover->wait(toldToEnd(env))) return nullptr;
  if (handover->error()) throw *handover->error();
  return handover;
}

napi_value readSync(napi_env env, const Tensor& x) {
  Recording::refuse("dataSync", kNothingToRead);
  std::shared_ptr<Handover> copied;  // where the device's memory is not the host's
  if (x.device().transfer().direct()) {
    if (!x.device().stream().synchronize(toldToEnd(env))) return nullptr;
    if (x.storage()->error()) throw *x.storage()->error();
  } else {
    copied = waitFor(env, "dataSync", x.device(),
                     [x](const Arrival& done) { startDownload("dataSync", x.device().transfer(), x, done); });
    if (!copied) return nullptr;
  }
  void* target = nullptr;
  napi_value buffer;
  if (napi_create_arraybuffer(env, x.bytes(), &target, &buffer) != napi_ok) {
    napi_value ignored;
    napi_get_and_clear_last_exception(env, &ignored);
    fail(ErrorCode::OutOfMemory, "dataSync", "JavaScript cannot hold an array of ", x.bytes(), " bytes");
  }
  if (x.bytes()) std::memcpy(target, copied ? copied->values()->data() : x.data(), x.bytes());
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
  const Recording* const recording = Recording::ofThread();
  if (device.transfer().direct() && !(recording && &recording->device() == &device)) {
    try {
      out.storage()->materialize();  // no job knows this storage yet
    } catch (const Error& error) {
      throw Error(error.code(), "tensor", error.detail());
    }
    if (length) std::memcpy(out.data(), bytes, length);
    return out;
  }
  std::shared_ptr<HostBuffer> copy;
  try {
    copy = device.transfer().buffer(length);
  } catch (const DeviceLost&) {
    throw;
  } catch (const Error& error) {
    throw Error(error.code(), "tensor", error.detail());
  }
  if (length) std::memcpy(copy->data(), bytes, length);
  // The values of a recording are those of this call, uploaded in each replay.
  launchVarying("tensor", device, {out}, {}, {}, nullptr, [copy](Backend&, const Operands& of, const Numbers&) {
    of.outputs[0].device().transfer().upload(of.outputs[0], copy);
  });
  return out;
}

// Whether there was such a handle; anything may be asked.
bool dispose(const Napi::Value& handle) {
  double number = -1;
  napi_get_value_double(handle.Env(), handle, &number);
  return Environment::of(handle.Env()).erase(number);
}

// The first `count` of a Float64Array of handles, as `dispose` does one by one.
void disposeAll(const Napi::Value& handles, int64_t count) {
  const napi_env env = handles.Env();
  const ArgumentName name{"disposeAll", "handles"};
  bool isTypedArray = false;
  napi_is_typedarray(env, handles, &isTypedArray);
  if (!isTypedArray) failArgument(env, name, "a Float64Array", handles);
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  napi_get_typedarray_info(env, handles, &type, &length, &data, nullptr, nullptr);
  if (type != napi_float64_array) failArgument(env, name, "a Float64Array", handles);
  if (count < 0 || static_cast<size_t>(count) > length) {
    fail(ErrorCode::Argument, name.op, "count must be in [0, ", length, "], got ", count);
  }
  Environment::of(env).erase(static_cast<const double*>(data), static_cast<size_t>(count));
}

// [live tensors, bytes, peak bytes, cached bytes, limit]
std::vector<double> memory(napi_env env, Device& device) {
  const MemoryFigures figures = device.allocator().figures();
  return {static_cast<double>(Environment::of(env).handles().live()), static_cast<double>(figures.bytes),
          static_cast<double>(figures.peakBytes), static_cast<double>(figures.cachedBytes),
          static_cast<double>(figures.limitBytes)};
}

void flush(const char* op, Device& device, const Arrival& arrival) {
  try {
    device.backend().refuse(op);
    device.transfer().flush(arrival);
  } catch (const DeviceLost& error) {
    arrival(nullptr, std::make_shared<const Error>(error));
  } catch (const Error& error) {
    arrival(nullptr, std::make_shared<const Error>(error.code(), op, error.detail()));
  }
}

// A promise of an empty buffer, when all enqueued before has run.
napi_value synchronize(napi_env env, Device& device) {
  return promiseOf(env, "synchronize", device,
                   [&device](const Arrival& settle) { flush("synchronize", device, settle); });
}

// Freeing a device's memory waits for the device, so where that is not the host it happens on the stream's thread.
void emptyCache(Device& device) {
  Recording::refuse("emptyCache", "memory cannot be given back meanwhile");
  if (device.transfer().direct()) return device.allocator().emptyCache();
  device.stream().enqueue(makeJob([&device]() noexcept { device.allocator().emptyCache(); }));
}

}  // namespace

bool synchronizeSync(napi_env env, const char* op, Device& device) {
  return waitFor(env, op, device, [op, &device](const Arrival& done) { flush(op, device, done); }) != nullptr;
}

void bindTransfer(Napi::Object exports) {
  const napi_env env = exports.Env();
  bind(exports, {"fromBytes", "tensor"}, {"data", "shape", "dtype", "device"}, &fromBytes);
  bind(exports, {"read", "data"}, {"x"}, [env](const Tensor& x) { return readAsync(env, x); });
  bind(exports, {"readSync", "dataSync"}, {"x"}, [env](const Tensor& x) { return readSync(env, x); });
  bind(exports, {"info", "tensor"}, {"x"},
       [env](const Tensor& x) { return Environment::of(env).information().of(env, x); });
  bind(exports, "dispose", {"handle"}, &dispose);
  bind(exports, "disposeAll", {"handles", "count"}, &disposeAll);
  bind(exports, "memory", {"device"}, [env](Device& device) { return memory(env, device); });
  bind(exports, "synchronize", {"device"}, [env](Device& device) { return synchronize(env, device); });
  bind(exports, "synchronizeSync", {"device"},
       [env](Device& device) { synchronizeSync(env, "synchronizeSync", device); });
  bind(exports, "emptyCache", {"device"}, &emptyCache);
  bind(exports, {"toDevice", "to"}, {"x", "device"}, &ops::toDevice);
  bind(exports, "resetPeakMemory", {"device"}, [](Device& device) { device.allocator().resetPeak(); });
  bind(exports, "setMemoryLimit", {"device", "bytes"}, [](Device& device, double bytes) {
    checkPositive("setMemoryLimit", "bytes", bytes);
    device.allocator().setLimit(static_cast<size_t>(std::min(bytes, 0x1p62)));
  });
  // A second handle of the same storage.
  bind(exports, "share", {"x"}, [](const Tensor& x) { return x; });
}

}  // namespace flowmap::binding
