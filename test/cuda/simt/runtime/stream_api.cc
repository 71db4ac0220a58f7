// Entry points of streams, events and host functions.
#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>

#include "guarded.h"
#include "streams.h"

using namespace flowmap::simt;

struct CUevent_st {
  std::mutex mutex;
  bool timing = true, recorded = false, captured = false;
  Ticket ticket;
  // When the recording ran; shared, as the operation may outlive the event.
  std::shared_ptr<std::atomic<double>> time;
};

namespace {

double now() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Ticket ticketOf(cudaEvent_t event) {
  const std::lock_guard lock(event->mutex);
  if (event->captured) throw Refused{cudaErrorCapturedEvent};
  return event->recorded ? event->ticket : Ticket{};
}

}  // namespace

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return guarded([&] {
    if (!stream || (flags & ~unsigned(cudaStreamNonBlocking))) return cudaErrorInvalidValue;
    *stream = createStream(!(flags & cudaStreamNonBlocking));
    return cudaSuccess;
  });
}
cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0, *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return guarded([&] { return destroyStream(stream) ? cudaSuccess : cudaErrorInvalidResourceHandle; });
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return guarded([&] {
    uint64_t id;
    if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    refuseInCapture(id);
    runTo(lastOf(id));
    return deviceError();
  });
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return guarded([&] {
    uint64_t id;
    if (!event || !streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    const bool capturing = captureStatus(id) != cudaStreamCaptureStatusNone;
    if (event->captured) {
      if (capturing) return cudaSuccess;  // of this capture: there is no other way in
      return explain(cudaErrorNotSupported, "the emulator does not let a second stream join a capture");
    }
    if (capturing && event->recorded) refuseInCapture(id, cudaErrorStreamCaptureIsolation);
    enqueue(id, [] {}, {ticketOf(event)});
    return cudaSuccess;
  });
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  return guarded([&] {
    uint64_t id;
    if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    enqueue(id, [=] { function(data); });
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  return guarded([&] {
    if (!event) return cudaErrorInvalidValue;
    *event = new CUevent_st;
    (*event)->timing = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
  });
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (!event) return note(cudaErrorInvalidResourceHandle);
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return guarded([&] {
    uint64_t id;
    if (!event || !streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    auto time = std::make_shared<std::atomic<double>>(0.0);
    const Ticket ticket = enqueue(id, [time] { *time = now(); });
    const std::lock_guard lock(event->mutex);
    event->ticket = ticket;
    event->time = time;
    event->recorded = true;
    event->captured = captureStatus(id) != cudaStreamCaptureStatusNone;
    return cudaSuccess;
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return guarded([&] {
    if (!event) return cudaErrorInvalidResourceHandle;
    runTo(ticketOf(event));
    return deviceError();
  });
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  return guarded([&] {
    if (!start || !end || !start->recorded || !end->recorded || !start->timing || !end->timing) {
      return cudaErrorInvalidResourceHandle;
    }
    if (!isDone(ticketOf(start)) || !isDone(ticketOf(end))) return cudaErrorNotReady;
    *milliseconds = float(*end->time - *start->time);
    return cudaSuccess;
  });
}
}
