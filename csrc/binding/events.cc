#include "binding/events.h"

#include "binding/bind.h"
#include "binding/transfer.h"
#include "core/backend.h"
#include "core/recording.h"
#include "ops/transfer.h"

namespace flowmap::binding {
namespace {

using EventPair = std::pair<std::shared_ptr<Event>, std::shared_ptr<Event>>;

void mark(Event& event) noexcept {
  try {
    event.moment = event.device.timeline().mark();
  } catch (const DeviceLost& error) {
    event.error = std::make_shared<const Error>(error);
  } catch (const Error& error) {
    event.error = std::make_shared<const Error>(error.code(), "recordEvent", error.detail());
  } catch (const std::bad_alloc&) {
    event.error = std::make_shared<const Error>(ErrorCode::OutOfMemory, "recordEvent", "the system allocator failed");
  }
}

double record(napi_env env, Device& device) {
  Recording::refuse("recordEvent", "a replay would not have it; set events around replays");
  device.backend().refuse("recordEvent");
  auto event = std::make_shared<Event>(device);
  device.stream().enqueue(makeJob([event]() noexcept { mark(*event); }));
  return Environment::of(env).insert(std::move(event));
}

void checkOneDevice(const std::vector<EventPair>& pairs) {
  Device& device = pairs[0].first->device;
  for (const auto& [start, end] : pairs) {
    for (const Event* event : {start.get(), end.get()}) {
      if (&event->device == &device) continue;
      fail(ErrorCode::Device, "elapsedSeconds", "all events must be of one device, got ", device, " and ",
           event->device);
    }
  }
}

// From each event to that at its place in `to`. Waits for them, and uses them up.
std::vector<double> elapsed(napi_env env, const std::vector<double>& from, const std::vector<double>& to) {
  if (from.size() != to.size()) {
    fail(ErrorCode::Argument, "elapsedSeconds", "to must have as many events as from, ", from.size(), ", got ",
         to.size());
  }
  std::vector<double> seconds;
  if (from.empty()) return seconds;
  Environment& environment = Environment::of(env);
  std::vector<EventPair> pairs;
  for (size_t i = 0; i < from.size(); ++i) pairs.emplace_back(environment.event(from[i]), environment.event(to[i]));
  checkOneDevice(pairs);
  for (const auto* side : {&from, &to}) {
    for (const double number : *side) environment.eraseEvent(number);
  }
  Device& device = pairs[0].first->device;
  if (!synchronizeSync(env, "elapsedSeconds", device)) return seconds;
  for (const auto& [start, end] : pairs) {
    for (const Event* event : {start.get(), end.get()}) {
      if (event->error) throw *event->error;
      if (!event->moment) fail(ErrorCode::Device, "elapsedSeconds", device, " was stopped before it came to an event");
    }
    seconds.push_back(device.timeline().seconds(*start->moment, *end->moment));
  }
  return seconds;
}

}  // namespace

void bindEvents(Napi::Object exports) {
  const napi_env env = exports.Env();
  bind(exports, "recordEvent", {"device"}, [env](Device& device) { return record(env, device); });
  bind(exports, "elapsedSeconds", {"from", "to"},
       [env](const std::vector<double>& from, const std::vector<double>& to) { return elapsed(env, from, to); });
  bind(exports, "vendorCopy", {"x"}, &ops::vendorCopy);
}

}  // namespace flowmap::binding
