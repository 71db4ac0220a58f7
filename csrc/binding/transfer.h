// Values into and out of tensors, and what can be asked about a tensor without waiting for it.
#pragma once

#include <napi.h>

namespace flowmap::binding {

void bindTransfer(Napi::Object exports);

}  // namespace flowmap::binding
