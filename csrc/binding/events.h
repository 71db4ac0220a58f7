// Points in a device's work that JavaScript sets, and the time between them.
#pragma once

#include <napi.h>

#include <memory>

#include "core/device.h"

namespace flowmap::binding {

struct Event {
  explicit Event(Device& of) : device(of) {}
  Device& device;
  // Of these, the stream's thread sets one.
  std::unique_ptr<Moment> moment;
  std::shared_ptr<const Error> error;
};

void bindEvents(Napi::Object exports);

}  // namespace flowmap::binding
