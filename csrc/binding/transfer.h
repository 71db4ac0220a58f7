// Values into and out of tensors, and what can be asked about a tensor without waiting for it.
#pragma once

#include <napi.h>

#include "core/device.h"

namespace flowmap::binding {

void bindTransfer(Napi::Object exports);

// Blocks until all that was enqueued before has run. False when the thread is told to end meanwhile.
bool synchronizeSync(napi_env env, const char* op, Device& device);

}  // namespace flowmap::binding
