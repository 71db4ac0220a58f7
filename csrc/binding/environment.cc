#include "binding/environment.h"

#include <algorithm>
#include <array>
#include <atomic>

#include "binding/events.h"
#include "core/device.h"
#include "cpu/allocator.h"

namespace flowmap::binding {
namespace {

std::atomic<int> liveEnvironments{0};

const char* codeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::Shape:
      return "ERR_FLOWMAP_SHAPE";
    case ErrorCode::DType:
      return "ERR_FLOWMAP_DTYPE";
    case ErrorCode::Device:
      return "ERR_FLOWMAP_DEVICE";
    case ErrorCode::DeviceUnavailable:
      return "ERR_FLOWMAP_DEVICE_UNAVAILABLE";
    case ErrorCode::Disposed:
      return "ERR_FLOWMAP_DISPOSED";
    case ErrorCode::Argument:
      return "ERR_FLOWMAP_ARGUMENT";
    case ErrorCode::OutOfMemory:
      return "ERR_FLOWMAP_OUT_OF_MEMORY";
    case ErrorCode::Numerical:
      return "ERR_FLOWMAP_NUMERICAL";
    case ErrorCode::Internal:
      return "ERR_FLOWMAP_INTERNAL";
  }
  return "ERR_FLOWMAP_INTERNAL";
}

}  // namespace

Mailbox::Mailbox(napi_env env) : env_(env) {
  napi_value name;
  napi_create_string_utf8(env, "flowmap", NAPI_AUTO_LENGTH, &name);
  napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, &Mailbox::settle,
                                  &function_);
  napi_unref_threadsafe_function(env, function_);
}

void Mailbox::expectOne() {
  if (expected_++ == 0) napi_ref_threadsafe_function(env_, function_);
}

void Mailbox::post(std::shared_ptr<PendingRead> read) {
  std::lock_guard lock(mutex_);
  if (!function_) return;
  auto* raw = new std::shared_ptr<PendingRead>(std::move(read));
  if (napi_call_threadsafe_function(function_, raw, napi_tsfn_nonblocking) != napi_ok) delete raw;
}

void Mailbox::close() {
  std::lock_guard lock(mutex_);
  if (function_) napi_release_threadsafe_function(function_, napi_tsfn_abort);
  function_ = nullptr;
}

void Mailbox::settle(napi_env env, napi_value, void* context, void* data) {
  const std::unique_ptr<std::shared_ptr<PendingRead>> posted(static_cast<std::shared_ptr<PendingRead>*>(data));
  const std::shared_ptr<PendingRead> read = std::move(*posted);
  if (!env) return;  // the environment is being torn down
  auto* mailbox = static_cast<Mailbox*>(context);
  if (--mailbox->expected_ == 0) napi_unref_threadsafe_function(env, mailbox->function_);
  Napi::HandleScope scope(env);
  if (read->error) {
    napi_reject_deferred(env, read->deferred, Environment::of(env).makeError(*read->error));
    return;
  }
  const size_t bytes = read->values ? read->values->bytes() : 0;
  void* target = nullptr;
  napi_value buffer;
  if (napi_create_arraybuffer(env, bytes, &target, &buffer) != napi_ok) {
    const Error error(ErrorCode::OutOfMemory, read->op,
                      "JavaScript cannot hold an array of " + std::to_string(bytes) + " bytes");
    bool pending = false;
    napi_value ignored;
    if (napi_is_exception_pending(env, &pending) == napi_ok && pending) {
      napi_get_and_clear_last_exception(env, &ignored);
    }
    napi_reject_deferred(env, read->deferred, Environment::of(env).makeError(error));
    return;
  }
  if (bytes) std::memcpy(target, read->values->data(), bytes);
  napi_resolve_deferred(env, read->deferred, buffer);
}

Environment::Environment(Napi::Env env) : env_(env), handles_(env), mailbox_(std::make_shared<Mailbox>(env)) {
  ++liveEnvironments;
}

Environment::~Environment() {
  // A thread that is ended in the middle of a recording leaves it to this to let the others go on.
  if (Recording* unfinished = Recording::ofThread()) unfinished->abandon();
  for (const auto& [number, recording] : recordings_) recording->dispose();
  mailbox_->close();
  if (--liveEnvironments == 0) stopDevices();
}

Environment& Environment::of(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<Environment*>(data);
}

double Environment::insert(Tensor tensor) {
  const double handle = handles_.insert(std::move(tensor));
  reportMemory();
  return handle;
}

bool Environment::erase(double handle) {
  const bool erased = handles_.erase(handle);
  reportMemory();
  return erased;
}

void Environment::erase(const double* handles, size_t count) {
  for (size_t i = 0; i < count; ++i) handles_.erase(handles[i]);
  reportMemory();
}

double Environment::insert(std::shared_ptr<Recording> recording) {
  recordings_.emplace(nextRecording_, std::move(recording));
  return nextRecording_++;
}

std::shared_ptr<Recording> Environment::recording(double number) const {
  const auto found = recordings_.find(number);
  if (found == recordings_.end()) fail(ErrorCode::Disposed, "captureGraph", "the step has been disposed");
  return found->second;
}

void Environment::eraseRecording(double number) {
  const auto found = recordings_.find(number);
  if (found == recordings_.end()) return;
  const std::shared_ptr<Recording> recording = std::move(found->second);
  recordings_.erase(found);
  if (Recording::ofThread() == recording.get()) recording->abandon();
  recording->dispose();
}

double Environment::insert(std::shared_ptr<Event> event) {
  events_.emplace(nextEvent_, std::move(event));
  return nextEvent_++;
}

std::shared_ptr<Event> Environment::event(double number) const {
  const auto found = number >= 1 ? events_.find(number) : events_.end();  // NaN has no place in an order
  if (found == events_.end()) fail(ErrorCode::Disposed, "elapsedSeconds", "the event has been used up");
  return found->second;
}

// Tells V8 how much its small wrappers hold beyond what is no burden, in steps, so that its collector runs often enough
// to be a safety net. Every 64 MB more make V8 collect, which takes milliseconds of all cores: told of everything, it
// would do so at every step of training a small network, which gives all back by itself.
void Environment::reportMemory() {
  constexpr int64_t kStep = int64_t{8} << 20;
  static const int64_t noBurden =
      std::min<int64_t>(int64_t{1} << 30, static_cast<int64_t>(cpu::availableMemory() / 16));
  // Tensors beyond any memory exist until their turn in the queue comes; V8 ends the process at absurd figures.
  constexpr size_t kMost = size_t{1} << 50;
  const int64_t held = static_cast<int64_t>(std::min(handles_.bytes(), kMost));
  const int64_t change = std::max<int64_t>(held - noBurden, 0) - reportedBytes_;
  if (change < kStep && change > -kStep) return;
  int64_t total = 0;
  napi_adjust_external_memory(env_, change, &total);
  reportedBytes_ += change;
}

napi_value Environment::makeError(const Error& error) {
  error.tell();
  const auto text = [this](const char* characters) {
    napi_value value = nullptr;
    napi_create_string_utf8(env_, characters, NAPI_AUTO_LENGTH, &value);
    return value;
  };
  napi_value made = nullptr;
  if (errorFactory_.IsEmpty()) {
    napi_create_error(env_, nullptr, text(error.what()), &made);
    return made;
  }
  const std::array<napi_value, 3> arguments{text(codeName(error.code())), text(error.op().c_str()),
                                            text(error.detail().c_str())};
  // Not through Napi::Function, which throws where a thread that is being terminated no longer runs JavaScript.
  napi_value undefined = nullptr;
  napi_get_undefined(env_, &undefined);
  napi_call_function(env_, undefined, errorFactory_.Value(), arguments.size(), arguments.data(), &made);
  return made;
}

}  // namespace flowmap::binding
