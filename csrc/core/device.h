// A device is an allocator, an in-order stream, the kernels that run on it and the way values come and go.
#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>

#include "core/allocator.h"
#include "core/graphs.h"
#include "core/stream.h"
#include "core/timeline.h"
#include "core/transfer.h"

namespace flowmap {

class Backend;
class Recording;

// What a kind of device brings; the stream is common to all.
struct DeviceParts {
  std::shared_ptr<void> shared;  // what the others refer to: ends last
  std::unique_ptr<Allocator> allocator;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Transfer> transfer;
  std::unique_ptr<Timeline> timeline;
  std::function<void()> prepareThread;  // runs on the stream's thread each time one starts
  std::unique_ptr<Graphs> graphs;       // null where a recorded step is its ops, run one after another
};

class Device {
 public:
  Device(std::string name, DeviceParts parts);
  ~Device();

  const std::string& name() const { return name_; }
  Allocator& allocator() { return *parts_.allocator; }
  Backend& backend() { return *parts_.backend; }
  Transfer& transfer() { return *parts_.transfer; }
  Timeline& timeline() { return *parts_.timeline; }
  Stream& stream() { return stream_; }
  Graphs* graphs() { return parts_.graphs.get(); }

  // On the stream's thread: what ops are recorded into now; null where they run.
  Recording* recording() const { return recording_; }
  void setRecording(Recording* recording) { recording_ = recording; }

 private:
  std::string name_;
  DeviceParts parts_;
  Recording* recording_ = nullptr;
  Stream stream_;  // last: its thread must end before what its jobs use
};

inline std::ostream& operator<<(std::ostream& out, const Device& device) { return out << device.name(); }

// 'cpu', 'cuda' (the same as 'cuda:0') or 'cuda:N'. Opens the device at its first use. Throws Error(DeviceUnavailable)
// with the reasons, Error(Device) for an unknown name and for a device that has failed.
Device& deviceByName(const std::string& op, const std::string& name);

// Stops the streams of all devices opened so far; a later op starts them again.
void stopDevices();
// Before the process ends in the middle of work: stops them, and sees to it that they are stopped before what libraries
// made for them since the first op is destroyed.
void stopDevicesForExit();

}  // namespace flowmap
