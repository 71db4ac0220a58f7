#include "core/device.h"

#include <array>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <vector>

#include "core/backend.h"
#include "core/cuda_library.h"
#include "core/error.h"
#include "cpu/allocator.h"
#include "cpu/backend.h"
#include "cpu/threads.h"

namespace flowmap {

Device::Device(std::string name, DeviceParts parts)
    : name_(std::move(name)), parts_(std::move(parts)), stream_(parts_.prepareThread) {}

Device::~Device() = default;

namespace {

constexpr int kMaxCudaDevices = 64;

// Devices are never destroyed: storages may outlive static destruction when the process ends in the middle of work. But
// their threads must have stopped by then: `process.exit` ends the process without ending its environment. Handlers run
// in reverse, so this one comes before those of the libraries that the device runs on.
Device* stoppedAtExit(Device* device) {
  std::atexit(stopDevices);
  return device;
}

Device& cpuDevice() {
  static Device* device = stoppedAtExit(
      new Device("cpu", {nullptr, std::make_unique<cpu::CpuAllocator>(), std::make_unique<cpu::CpuBackend>(),
                         std::make_unique<HostTransfer>(), std::make_unique<HostTimeline>(),
                         [] { cpu::applyThreads(cpu::threads()); }, nullptr}));
  return *device;
}

std::array<std::atomic<Device*>, kMaxCudaDevices> cudaDevices{};

// -1 where `name` is neither 'cuda' nor 'cuda:N' with a plain N.
int cudaOrdinal(const std::string& name) {
  if (name == "cuda") return 0;
  if (name.rfind("cuda:", 0) != 0) return -1;
  const char* first = name.data() + 5;
  const char* last = name.data() + name.size();
  int ordinal = -1;
  const auto [end, error] = std::from_chars(first, last, ordinal);
  const bool plain = error == std::errc() && end == last && *first != '-' && (*first != '0' || last - first == 1);
  return plain ? ordinal : -1;
}

Device* openCuda(const std::string& op, int ordinal) {
  const std::string name = "cuda:" + std::to_string(ordinal);
  const auto unavailable = [&](const auto&... reasons) {
    fail(ErrorCode::DeviceUnavailable, op, "device '", name, "' is not available: ", reasons...);
  };
  const CudaLibrary& found = cudaLibrary();
  if (!found.library) {
    if (found.path.empty()) unavailable(found.reason);
    unavailable("the CUDA library ", found.path, ": ", found.reason);
  }
  std::string reason;
  const int count = found.library->count(reason);
  if (count == 0) unavailable(reason);
  if (ordinal >= count || ordinal >= kMaxCudaDevices) {
    unavailable("there ",
                count == 1 ? "is one CUDA device, 'cuda:0'" : "are " + std::to_string(count) + " CUDA devices");
  }
  try {
    return stoppedAtExit(new Device(name, found.library->open(ordinal, name)));
  } catch (const Error& error) {
    unavailable(error.detail());
  }
  return nullptr;
}

Device& cudaDevice(const std::string& op, int ordinal) {
  if (ordinal < kMaxCudaDevices) {
    if (Device* open = cudaDevices[ordinal].load(std::memory_order_acquire)) {
      open->backend().refuse(op);
      return *open;
    }
  }
  static std::mutex opening;
  std::lock_guard lock(opening);
  if (ordinal < kMaxCudaDevices) {
    if (Device* open = cudaDevices[ordinal].load(std::memory_order_acquire)) return *open;
  }
  Device* device = openCuda(op, ordinal);
  cudaDevices[ordinal].store(device, std::memory_order_release);
  return *device;
}

}  // namespace

Device& deviceByName(const std::string& op, const std::string& name) {
  if (name == "cpu") return cpuDevice();
  const int ordinal = cudaOrdinal(name);
  if (ordinal < 0) fail(ErrorCode::Device, op, "device must be 'cpu', 'cuda' or 'cuda:N', got '", name, "'");
  return cudaDevice(op, ordinal);
}

void stopDevices() {
  std::vector<Device*> open{&cpuDevice()};
  for (const auto& slot : cudaDevices) {
    if (Device* device = slot.load(std::memory_order_acquire)) open.push_back(device);
  }
  // All first drop what waits, since a job may wait for another device's.
  for (Device* device : open) device->stream().abandon();
  for (Device* device : open) device->stream().stop();
  for (Device* device : open) device->transfer().stop();
}

void stopDevicesForExit() {
  stopDevices();
  // A library's statics that were made at its first use are destroyed before a handler from before that: one more.
  std::atexit(stopDevices);
}

}  // namespace flowmap
