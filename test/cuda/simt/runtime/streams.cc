// The queues.
#include "streams.h"

#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <thread>

#include "../report.h"
#include "errors.h"

namespace flowmap::simt {

namespace {

struct Operation {
  std::function<void()> run;
  std::vector<Ticket> after;
};

struct Capture {
  cudaStreamCaptureMode mode;
  std::thread::id thread = std::this_thread::get_id();
  bool valid = true;
  Nodes nodes;
};

struct Stream {
  bool blocking = true;  // ordered with the default stream
  bool open = true;
  uint64_t issued = 0, done = 0;
  std::deque<Operation> queue;  // number done + 1 first
  std::unique_ptr<Capture> capture;
};

struct Streams {
  std::mutex state;                // the queues
  std::recursive_mutex execution;  // one host thread at a time runs operations
  std::map<uint64_t, Stream> all;
  uint64_t next = 1;
};

Streams& streams() {
  static Streams& all = []() -> Streams& {
    auto& made = *new Streams;
    made.all[0];
    return made;
  }();
  return all;
}

void fail(const std::exception& defect, cudaError_t error) { failDevice(error, defect.what()); }

}  // namespace

bool streamId(cudaStream_t handle, uint64_t& id) {
  id = reinterpret_cast<uint64_t>(handle);
  if (handle == cudaStreamLegacy) id = 0;
  if (handle == cudaStreamPerThread) return false;
  // Handles are ids shifted beyond the two special ones.
  if (id != 0) id >>= 8;
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  const auto found = s.all.find(id);
  return found != s.all.end() && found->second.open;
}

cudaStream_t createStream(bool blocking) {
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  const uint64_t id = s.next++;
  s.all[id].blocking = blocking;
  return reinterpret_cast<cudaStream_t>(id << 8);
}

bool destroyStream(cudaStream_t handle) {
  uint64_t id;
  if (!streamId(handle, id) || id == 0) return false;
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  s.all[id].open = false;
  return true;
}

Ticket enqueue(uint64_t id, std::function<void()> operation, std::vector<Ticket> after) {
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  Stream& stream = s.all.at(id);
  if (stream.capture) {
    if (!stream.capture->valid) throw Refused{cudaErrorStreamCaptureInvalidated};
    stream.capture->nodes.push_back(std::move(operation));
    return {};
  }
  if (id == 0) {
    for (auto& [other, state] : s.all) {
      if (!state.blocking || !state.capture) continue;
      state.capture->valid = false;
      throw Refused{cudaErrorStreamCaptureImplicit};
    }
    for (const auto& [other, state] : s.all) {
      if (other != 0 && state.blocking && state.done < state.issued) after.push_back({other, state.issued});
    }
  } else if (stream.blocking && s.all.at(0).done < s.all.at(0).issued) {
    after.push_back({0, s.all.at(0).issued});
  }
  stream.queue.push_back({std::move(operation), std::move(after)});
  return {id, ++stream.issued};
}

Ticket lastOf(uint64_t id) {
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  return {id, s.all.at(id).issued};
}

bool isDone(Ticket ticket) {
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  return s.all.at(ticket.stream).done >= ticket.number;
}

void runTo(Ticket ticket) {
  Streams& s = streams();
  const std::lock_guard turn(s.execution);
  for (;;) {
    Operation operation;
    {
      const std::lock_guard lock(s.state);
      Stream& stream = s.all.at(ticket.stream);
      if (stream.done >= ticket.number) return;
      operation = std::move(stream.queue.front());
      stream.queue.pop_front();
    }
    for (const Ticket& earlier : operation.after) runTo(earlier);
    if (deviceError() == cudaSuccess) {
      try {
        operation.run();
      } catch (const Defect& defect) {
        fail(defect, cudaErrorLaunchFailure);
      } catch (const std::exception& other) {
        fail(other, cudaErrorUnknown);
      }
    }
    const std::lock_guard lock(s.state);
    ++s.all.at(ticket.stream).done;
  }
}

void runAll() {
  Streams& s = streams();
  std::vector<Ticket> last;
  {
    const std::lock_guard lock(s.state);
    for (const auto& [id, stream] : s.all) last.push_back({id, stream.issued});
  }
  for (const Ticket& ticket : last) runTo(ticket);
}

cudaError_t beginCapture(uint64_t id, cudaStreamCaptureMode mode) {
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  Stream& stream = s.all.at(id);
  if (id == 0) return cudaErrorStreamCaptureUnsupported;
  if (stream.capture) return cudaErrorIllegalState;
  stream.capture = std::make_unique<Capture>(Capture{.mode = mode, .nodes = {}});
  return cudaSuccess;
}

cudaError_t endCapture(uint64_t id, Nodes& nodes) {
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  Stream& stream = s.all.at(id);
  if (!stream.capture) return cudaErrorIllegalState;
  if (stream.capture->mode != cudaStreamCaptureModeRelaxed && stream.capture->thread != std::this_thread::get_id()) {
    stream.capture->valid = false;
    return cudaErrorStreamCaptureWrongThread;
  }
  const std::unique_ptr<Capture> ended = std::move(stream.capture);
  if (!ended->valid) return cudaErrorStreamCaptureInvalidated;
  nodes = std::move(ended->nodes);
  return cudaSuccess;
}

cudaStreamCaptureStatus captureStatus(uint64_t id) {
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  const Stream& stream = s.all.at(id);
  if (!stream.capture) return cudaStreamCaptureStatusNone;
  return stream.capture->valid ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusInvalidated;
}

void refuseInCapture(uint64_t id, cudaError_t error) {
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  Stream& stream = s.all.at(id);
  if (!stream.capture) return;
  stream.capture->valid = false;
  throw Refused{error};
}

void refuseInAnyCapture() {
  std::vector<uint64_t> ids;
  Streams& s = streams();
  {
    const std::lock_guard lock(s.state);
    for (const auto& [id, stream] : s.all) ids.push_back(id);
  }
  for (const uint64_t id : ids) refuseInCapture(id);
}

void refuseUnsafeCall() {
  Streams& s = streams();
  const std::lock_guard lock(s.state);
  for (auto& [id, stream] : s.all) {
    if (!stream.capture || stream.capture->mode == cudaStreamCaptureModeRelaxed) continue;
    if (stream.capture->mode == cudaStreamCaptureModeThreadLocal &&
        stream.capture->thread != std::this_thread::get_id()) {
      continue;
    }
    stream.capture->valid = false;
    throw Refused{cudaErrorStreamCaptureUnsupported};
  }
}

}  // namespace flowmap::simt
