// What a device brings that can record the work put on its stream and run it again without the host's part in it. All
// on the stream's thread. How recordings are put together from this: core/recording.h.
#pragma once

#include <memory>

namespace flowmap {

// Work that was recorded in one piece.
class GraphSegment {
 public:
  virtual ~GraphSegment() = default;
  virtual void launch() = 0;  // throws
};

// The blocks of one recording, which are its own until this ends; those in use then are given back once released.
class GraphMemory {
 public:
  virtual ~GraphMemory() = default;
  // From now on, or no longer, what the device hands out belongs here and what comes back is handed out again.
  virtual void open() = 0;
  virtual void close() noexcept = 0;
};

class Graphs {
 public:
  virtual ~Graphs() = default;
  virtual std::unique_ptr<GraphMemory> memory() = 0;
  // Between the two nothing is executed. `end` throws where something came in between that cannot be recorded.
  virtual void begin() = 0;
  virtual std::unique_ptr<GraphSegment> end() = 0;
  virtual void cancel() noexcept = 0;
  // Until nothing runs any more: before segments are destroyed.
  virtual void wait() noexcept = 0;
};

}  // namespace flowmap
