// Streams are queues that run only when something waits for them: what is not waited for has not happened, as on the
// slowest of devices. Operations know what they come after, in their stream and across streams.
#pragma once

#include <driver_types.h>

#include <cstdint>
#include <functional>
#include <vector>

namespace flowmap::simt {

/** The n-th operation of a stream. */
struct Ticket {
  uint64_t stream = 0, number = 0;
};

/** Id of a handle: the default stream's is 0. Null when the handle is of no stream. */
bool streamId(cudaStream_t, uint64_t& id);
cudaStream_t createStream(bool blocking);
bool destroyStream(cudaStream_t);  // what it holds still runs, when waited for

/** Into the stream's capture where there is one; the ticket is then of nothing. Throws Refused. */
Ticket enqueue(uint64_t stream, std::function<void()> operation, std::vector<Ticket> after = {});
Ticket lastOf(uint64_t stream);
bool isDone(Ticket);
/** Runs what leads to the ticket. A failing kernel makes the device fail; what was queued is then dropped. */
void runTo(Ticket);
void runAll();

// ---- capture: operations of a stream are kept instead of queued ----

/** What CUDA answers to a call that a capture does not allow. */
struct Refused {
  cudaError_t error;
};
using Nodes = std::vector<std::function<void()>>;

cudaError_t beginCapture(uint64_t stream, cudaStreamCaptureMode);
/** Ends it whatever becomes of it. */
cudaError_t endCapture(uint64_t stream, Nodes&);
cudaStreamCaptureStatus captureStatus(uint64_t stream);
/** Makes the capture of the stream invalid, if there is one, and throws. */
void refuseInCapture(uint64_t stream, cudaError_t = cudaErrorStreamCaptureUnsupported);
/** Likewise for a call that waits for the whole device. */
void refuseInAnyCapture();
/** Likewise for a call that may do so: captures that are not relaxed forbid it, to their own thread or to all. */
void refuseUnsafeCall();

}  // namespace flowmap::simt
