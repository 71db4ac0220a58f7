// Recordings of steps, by number.
#pragma once

#include <napi.h>

namespace flowmap::binding {

void bindGraph(Napi::Object exports);

}  // namespace flowmap::binding
