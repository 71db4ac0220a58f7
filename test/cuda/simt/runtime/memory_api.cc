// Entry points of memory: device, pinned, copies, fills.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "../memory.h"
#include "../report.h"
#include "guarded.h"
#include "modules.h"
#include "streams.h"

using namespace flowmap::simt;

namespace {

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

// ---- pinned host memory, and what pending copies will still read from it ----

struct Host {
  std::mutex mutex;
  std::map<uint64_t, uint64_t> pinned;  // address → size
  struct Reading {
    uint64_t begin, end;
    Ticket ticket;
  };
  std::vector<Reading> readings;
};
Host& host() {
  static Host& all = *new Host;
  return all;
}

bool isPinned(const void* pointer, size_t size) {
  const std::lock_guard lock(host().mutex);
  auto next = host().pinned.upper_bound(address(pointer));
  if (next == host().pinned.begin()) return false;
  --next;
  return address(pointer) + size <= next->first + next->second;
}

/** Runs the pending copies that read this range, so that it may be poisoned. */
void settleReadings(const void* pointer, size_t size) {
  std::vector<Ticket> before;
  {
    const std::lock_guard lock(host().mutex);
    std::erase_if(host().readings, [](const Host::Reading& r) { return isDone(r.ticket); });
    for (const Host::Reading& r : host().readings) {
      if (r.begin < address(pointer) + size && address(pointer) < r.end) before.push_back(r.ticket);
    }
  }
  for (const Ticket& ticket : before) runTo(ticket);
}

// ---- the copies themselves, when their turn comes ----

void checkDevice(const void* pointer, size_t size, const char* what) {
  if (!deviceMemory().valid(address(pointer), size)) {
    throw Defect(format("%s of %zu bytes at 0x%llx, %s", what, size, (unsigned long long)address(pointer),
                        deviceMemory().describe(address(pointer), size).c_str()));
  }
}

void toDevice(void* to, const void* from, size_t size) {
  checkDevice(to, size, "copy to the device");
  std::memcpy(deviceMemory().bytes(address(to)), from, size);
  std::memset(deviceMemory().shadow(address(to)), kWritten, size);
}

void toHost(void* to, const void* from, size_t size) {
  checkDevice(from, size, "copy from the device");
  std::memcpy(to, deviceMemory().bytes(address(from)), size);
}

void withinDevice(void* to, const void* from, size_t size) {
  checkDevice(from, size, "copy from the device");
  checkDevice(to, size, "copy to the device");
  std::memmove(deviceMemory().bytes(address(to)), deviceMemory().bytes(address(from)), size);
  std::memmove(deviceMemory().shadow(address(to)), deviceMemory().shadow(address(from)), size);
}

void fill(void* to, int value, size_t size) {
  checkDevice(to, size, "fill");
  std::memset(deviceMemory().bytes(address(to)), value, size);
  std::memset(deviceMemory().shadow(address(to)), kWritten, size);
}

cudaError_t copy(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  uint64_t id;
  if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
  if (size == 0) return cudaSuccess;
  if (!to || !from) return cudaErrorInvalidValue;
  const bool deviceTo = deviceMemory().contains(address(to)), deviceFrom = deviceMemory().contains(address(from));
  const bool agrees = kind == cudaMemcpyDefault || (kind == cudaMemcpyHostToDevice && deviceTo && !deviceFrom) ||
                      (kind == cudaMemcpyDeviceToHost && !deviceTo && deviceFrom) ||
                      (kind == cudaMemcpyDeviceToDevice && deviceTo && deviceFrom) ||
                      (kind == cudaMemcpyHostToHost && !deviceTo && !deviceFrom);
  if (!agrees) return cudaErrorInvalidValue;
  // CUDA records pageable copies, and reads and writes them at each launch; here nothing does that.
  if (captureStatus(id) != cudaStreamCaptureStatusNone && !(deviceTo && deviceFrom) &&
      !isPinned(deviceTo ? from : to, size)) {
    return explain(cudaErrorNotSupported, "the emulator does not capture copies from or to pageable memory");
  }
  if (deviceTo && deviceFrom) {
    enqueue(id, [=] { withinDevice(to, from, size); });
  } else if (deviceTo) {
    if (isPinned(from, size)) {
      const Ticket ticket = enqueue(id, [=] { toDevice(to, from, size); });
      if (ticket.number == 0) return cudaSuccess;  // captured
      const std::lock_guard lock(host().mutex);
      host().readings.push_back({address(from), address(from) + size, ticket});
    } else {
      // Pageable memory is staged: the caller may change it as soon as the call returns.
      const auto* bytes = static_cast<const uint8_t*>(from);
      auto staged = std::make_shared<std::vector<uint8_t>>(bytes, bytes + size);
      enqueue(id, [=] { toDevice(to, staged->data(), size); });
    }
  } else {
    settleReadings(to, size);
    if (isPinned(to, size) && captureStatus(id) == cudaStreamCaptureStatusNone) std::memset(to, kPoison, size);
    const Ticket ticket =
        deviceFrom ? enqueue(id, [=] { toHost(to, from, size); }) : enqueue(id, [=] { std::memmove(to, from, size); });
    if (!isPinned(to, size)) runTo(ticket);  // pageable: the call returns when the copy is done
  }
  return deviceError();
}

cudaError_t copyNow(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  refuseUnsafeCall();
  const cudaError_t error = copy(to, from, size, kind, nullptr);
  if (error != cudaSuccess) return error;
  runTo(lastOf(0));
  return deviceError();
}

cudaError_t allocate(void** pointer, size_t size) {
  refuseUnsafeCall();
  if (!pointer) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (size == 0) return cudaSuccess;
  const uint64_t at = deviceMemory().allocate(size);
  if (!at) return cudaErrorMemoryAllocation;
  *pointer = reinterpret_cast<void*>(at);
  return cudaSuccess;
}

cudaError_t pin(void** pointer, size_t size) {
  refuseUnsafeCall();
  if (!pointer) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (size == 0) return cudaSuccess;
  void* memory = nullptr;
  if (posix_memalign(&memory, 4096, size) != 0) return cudaErrorMemoryAllocation;
  std::memset(memory, kPoison, size);
  const std::lock_guard lock(host().mutex);
  host().pinned[address(memory)] = size;
  *pointer = memory;
  return cudaSuccess;
}

}  // namespace

extern "C" {

cudaError_t cudaMalloc(void** pointer, size_t size) {
  return guarded([&] { return allocate(pointer, size); });
}
cudaError_t cudaMallocAsync(void** pointer, size_t size, cudaStream_t stream) {
  return guarded([&] {
    uint64_t id;
    if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    refuseInCapture(id, cudaErrorNotSupported);
    cudaError_t error = allocate(pointer, size);
    if (error == cudaErrorMemoryAllocation) {
      runTo(lastOf(id));  // what the stream frees becomes usable
      error = allocate(pointer, size);
    }
    return error;
  });
}
cudaError_t cudaFree(void* pointer) {
  return guarded([&] {
    if (!pointer) return cudaSuccess;
    refuseUnsafeCall();
    runAll();
    if (deviceError() != cudaSuccess) return deviceError();
    return deviceMemory().free(address(pointer)) ? cudaSuccess : cudaErrorInvalidValue;
  });
}
cudaError_t cudaFreeAsync(void* pointer, cudaStream_t stream) {
  return guarded([&] {
    uint64_t id;
    if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    refuseInCapture(id, cudaErrorNotSupported);
    if (!pointer) return cudaSuccess;
    enqueue(id, [=] {
      if (!deviceMemory().free(address(pointer))) throw Defect("cudaFreeAsync of what is not an allocation");
    });
    return cudaSuccess;
  });
}
cudaError_t cudaMallocHost(void** pointer, size_t size) {
  return guarded([&] { return pin(pointer, size); });
}
cudaError_t cudaHostAlloc(void** pointer, size_t size, unsigned) {
  return guarded([&] { return pin(pointer, size); });
}
cudaError_t cudaFreeHost(void* pointer) {
  return guarded([&] {
    if (!pointer) return cudaSuccess;
    refuseUnsafeCall();
    runAll();
    const std::lock_guard lock(host().mutex);
    if (host().pinned.erase(address(pointer)) == 0) return cudaErrorInvalidValue;
    std::free(pointer);
    return cudaSuccess;
  });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t size, cudaMemcpyKind kind, cudaStream_t stream) {
  return guarded([&] { return copy(to, from, size, kind, stream); });
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t size, cudaMemcpyKind kind) {
  return guarded([&] { return copyNow(to, from, size, kind); });
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t size, cudaStream_t stream) {
  return guarded([&] {
    uint64_t id;
    if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    if (size == 0) return cudaSuccess;
    if (!deviceMemory().contains(address(to))) return cudaErrorInvalidValue;
    enqueue(id, [=] { fill(to, value, size); });
    return cudaSuccess;
  });
}
cudaError_t cudaMemset(void* to, int value, size_t size) {
  const cudaError_t error = cudaMemsetAsync(to, value, size, nullptr);
  return error != cudaSuccess ? error : cudaStreamSynchronize(nullptr);
}
cudaError_t cudaMemcpyToSymbol(const void* symbol, const void* from, size_t size, size_t offset, cudaMemcpyKind kind) {
  return guarded([&] {
    const GlobalVariable variable = findVariable(symbol);
    if (!variable.address || offset + size > variable.size) return cudaErrorInvalidSymbol;
    return copyNow(reinterpret_cast<void*>(variable.address + offset), from, size, kind);
  });
}
cudaError_t cudaMemcpyFromSymbol(void* to, const void* symbol, size_t size, size_t offset, cudaMemcpyKind kind) {
  return guarded([&] {
    const GlobalVariable variable = findVariable(symbol);
    if (!variable.address || offset + size > variable.size) return cudaErrorInvalidSymbol;
    return copyNow(to, reinterpret_cast<void*>(variable.address + offset), size, kind);
  });
}
cudaError_t cudaGetSymbolAddress(void** pointer, const void* symbol) {
  return guarded([&] {
    const GlobalVariable variable = findVariable(symbol);
    if (!variable.address) return cudaErrorInvalidSymbol;
    *pointer = reinterpret_cast<void*>(variable.address);
    return cudaSuccess;
  });
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  return guarded([&] {
    *total = deviceMemory().capacity();
    *free = deviceMemory().capacity() - deviceMemory().used();
    return cudaSuccess;
  });
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  return guarded([&] {
    const bool device = deviceMemory().valid(address(pointer), 1), pinned = isPinned(pointer, 1);
    *attributes = {};
    attributes->type = device ? cudaMemoryTypeDevice : pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    attributes->devicePointer = device ? const_cast<void*>(pointer) : nullptr;
    attributes->hostPointer = pinned ? const_cast<void*>(pointer) : nullptr;
    return cudaSuccess;
  });
}
}
