// A device is an allocator, an in-order stream and the kernels that run on it.
#pragma once

#include <memory>
#include <ostream>
#include <string>

#include "core/allocator.h"
#include "core/stream.h"

namespace flowmap {

class Backend;

class Device {
 public:
  Device(std::string name, std::unique_ptr<Allocator> allocator, std::unique_ptr<Backend> backend,
         std::function<void()> prepareThread = {});
  ~Device();

  const std::string& name() const { return name_; }
  Allocator& allocator() { return *allocator_; }
  Backend& backend() { return *backend_; }
  Stream& stream() { return stream_; }

 private:
  std::string name_;
  std::unique_ptr<Allocator> allocator_;
  std::unique_ptr<Backend> backend_;
  Stream stream_;  // last: its thread must end before what its jobs use
};

inline std::ostream& operator<<(std::ostream& out, const Device& device) { return out << device.name(); }

// 'cpu', 'cuda' or 'cuda:N'. Throws Error(DeviceUnavailable) with the reasons, Error(Device) for an unknown name.
Device& deviceByName(const std::string& op, const std::string& name);

// Stops the streams of all devices opened so far; a later op starts them again.
void stopDevices();

}  // namespace flowmap
