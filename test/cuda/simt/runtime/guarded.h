// The body of guarded(): what every entry point of the runtime is wrapped in.
#pragma once

#include <new>

#include "../report.h"
#include "errors.h"
#include "streams.h"

namespace flowmap::simt {

template <class Body>
cudaError_t guarded(Body&& body) {
  if (const cudaError_t broken = deviceError(); broken != cudaSuccess) return broken;
  try {
    return note(body());
  } catch (const Refused& refused) {
    return note(refused.error);
  } catch (const UnknownPtx& unknown) {
    return explain(cudaErrorInvalidPtx, unknown.what());
  } catch (const std::bad_alloc&) {
    return note(cudaErrorMemoryAllocation);
  } catch (const std::exception& other) {
    return explain(cudaErrorUnknown, other.what());
  }
}

}  // namespace flowmap::simt
