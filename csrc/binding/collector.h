// What happens to tensors and recordings that the collector finds forgotten.
#pragma once

#include <napi.h>

namespace flowmap::binding {

void bindCollector(Napi::Object exports);

}  // namespace flowmap::binding
