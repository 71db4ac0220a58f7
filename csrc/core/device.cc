#include "core/device.h"

#include "core/backend.h"
#include "core/error.h"
#include "cpu/allocator.h"
#include "cpu/backend.h"
#include "cpu/threads.h"

namespace flowmap {

Device::Device(std::string name, std::unique_ptr<Allocator> allocator, std::unique_ptr<Backend> backend,
               std::function<void()> prepareThread)
    : name_(std::move(name)),
      allocator_(std::move(allocator)),
      backend_(std::move(backend)),
      stream_(std::move(prepareThread)) {}

Device::~Device() = default;

namespace {

// Never destroyed: storages may outlive static destruction when the process ends in the middle of work.
Device& cpuDevice() {
  static Device* device = new Device("cpu", std::make_unique<cpu::CpuAllocator>(), std::make_unique<cpu::CpuBackend>(),
                                     [] { cpu::applyThreads(cpu::threads()); });
  return *device;
}

}  // namespace

Device& deviceByName(const std::string& op, const std::string& name) {
  if (name == "cpu") return cpuDevice();
  if (name == "cuda" || name.rfind("cuda:", 0) == 0) {
    fail(ErrorCode::DeviceUnavailable, op, "device '", name, "' is not available: this build has no CUDA backend");
  }
  fail(ErrorCode::Device, op, "device must be 'cpu', 'cuda' or 'cuda:N', got '", name, "'");
}

void stopDevices() { cpuDevice().stream().stop(); }

}  // namespace flowmap
