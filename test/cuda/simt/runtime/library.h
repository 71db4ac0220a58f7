// What libraries that stand in for NVIDIA's (cublas/) may ask of the emulated runtime: work in a stream's order, on
// memory whose bounds and writes are checked.
#pragma once

#include <driver_types.h>

#include <cstddef>

extern "C" {

/** Why the work is wrong; empty while it is not. Exceptions do not cross between libraries. */
struct SimtDefect {
  char text[512];
};

/**
 * Enqueues work of a library. A defect that it leaves is the device's failure. `release` frees the data when the work
 * can no longer run.
 */
cudaError_t simtEnqueue(cudaStream_t stream, void (*work)(const void* data, SimtDefect*), void* data,
                        void (*release)(void*));

/** For work that runs: the bytes behind a device address; null, and a defect, where it must not touch them. */
const void* simtRead(const void* device, size_t bytes, const char* what, SimtDefect*);
void* simtWrite(void* device, size_t bytes, const char* what, SimtDefect*);
}
