// What this build runs on: libraries, SIMD level, threads.
#pragma once

#include <napi.h>

namespace flowmap::binding {

void bindFeatures(Napi::Object exports);

}  // namespace flowmap::binding
