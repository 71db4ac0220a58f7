// What one JavaScript environment (the main thread or a worker) owns: its handles, its bound operations, its mailbox.
#pragma once

#include <napi.h>

#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "binding/handle_table.h"
#include "binding/information.h"
#include "core/recording.h"

namespace flowmap::binding {

struct Event;

// Base of the closures behind bound functions; the environment owns them.
struct BoundBase {
  virtual ~BoundBase() = default;
};

// A read that waits for the device. Filled on a thread of the device, settled on the JavaScript thread.
struct PendingRead {
  napi_deferred deferred = nullptr;
  const char* op = "data";
  std::shared_ptr<HostBuffer> values;  // absent: nothing but the waiting was asked for
  std::shared_ptr<const Error> error;
};

// Carries finished reads to the JavaScript thread. Survives the environment, so that late jobs find it closed.
class Mailbox {
 public:
  explicit Mailbox(napi_env env);
  void expectOne();                              // JavaScript thread: keeps the process alive until it arrives
  void post(std::shared_ptr<PendingRead> read);  // any thread
  void close();                                  // JavaScript thread, at the environment's end

 private:
  static void settle(napi_env env, napi_value, void* context, void* data);
  napi_env env_;
  std::mutex mutex_;
  napi_threadsafe_function function_ = nullptr;
  int expected_ = 0;  // JavaScript thread only
};

// What a blocking call asks now and then: whether this JavaScript thread is told to end meanwhile (`process.exit` on
// the main thread, `worker.terminate`), which would otherwise wait for the whole queue. Calls into JavaScript fail from
// then on.
inline auto toldToEnd(napi_env env) {
  napi_value undefined;
  napi_get_undefined(env, &undefined);
  return [env, undefined] {
    napi_value ignored;
    return napi_coerce_to_bool(env, undefined, &ignored) != napi_ok;
  };
}

class Environment {
 public:
  explicit Environment(Napi::Env env);
  ~Environment();
  static Environment& of(napi_env env);

  HandleTable& handles() { return handles_; }
  Information& information() { return information_; }
  const std::shared_ptr<Mailbox>& mailbox() { return mailbox_; }
  void own(std::unique_ptr<BoundBase> bound) { bound_.push_back(std::move(bound)); }

  double insert(Tensor tensor);
  bool erase(double handle);
  void erase(const double* handles, size_t count);

  // Recordings by number; a number is never used again.
  double insert(std::shared_ptr<Recording> recording);
  // Throws Error(Disposed).
  std::shared_ptr<Recording> recording(double number) const;
  void eraseRecording(double number);

  // Events likewise.
  double insert(std::shared_ptr<Event> event);
  // Throws Error(Disposed).
  std::shared_ptr<Event> event(double number) const;
  void eraseEvent(double number) { events_.erase(number); }

  void setErrorFactory(Napi::Function factory) { errorFactory_ = Napi::Persistent(factory); }
  // The JavaScript error for `error`: built by TypeScript, so that it is of the realm of its classes. Null where the
  // thread is being terminated and runs no JavaScript any more.
  napi_value makeError(const Error& error);

 private:
  void reportMemory();

  Napi::Env env_;
  HandleTable handles_;
  Information information_;
  std::shared_ptr<Mailbox> mailbox_;
  std::vector<std::unique_ptr<BoundBase>> bound_;
  std::map<double, std::shared_ptr<Recording>> recordings_;
  double nextRecording_ = 1;
  std::map<double, std::shared_ptr<Event>> events_;
  double nextEvent_ = 1;
  Napi::FunctionReference errorFactory_;
  int64_t reportedBytes_ = 0;
};

}  // namespace flowmap::binding
