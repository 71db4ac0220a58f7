// The runtime's error state: a sticky failure of the device, and the last error of each host thread.
#pragma once

#include <driver_types.h>

#include <string>

namespace flowmap::simt {

/** Remembers an error as the host thread's last one; gives it back. */
cudaError_t note(cudaError_t);
/** The device failed: every later call says so, with this report, until cudaDeviceReset. */
void failDevice(cudaError_t, const std::string& report);
cudaError_t deviceError();  // cudaSuccess while it works
void resetDevice();
/** A report for an error that is not sticky (a kernel that cannot be launched), for this host thread. */
cudaError_t explain(cudaError_t, const std::string& report);

/** Runs an API's body: sticky failures first, exceptions become errors. */
template <class Body>
cudaError_t guarded(Body&& body);

}  // namespace flowmap::simt

#include "guarded.h"
