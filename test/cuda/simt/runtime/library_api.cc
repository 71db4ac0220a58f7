// Entry points for libraries that stand in for NVIDIA's.
#include <cstdio>
#include <cstring>
#include <memory>

#include "../memory.h"
#include "../report.h"
#include "guarded.h"
#include "library.h"
#include "streams.h"

using namespace flowmap::simt;

namespace {

uint64_t address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

bool isAllocated(const void* device, size_t bytes, const char* what, SimtDefect* defect) {
  if (deviceMemory().valid(address(device), bytes)) return true;
  std::snprintf(defect->text, sizeof defect->text, "%s, %zu bytes at 0x%llx: %s", what, bytes,
                (unsigned long long)address(device), deviceMemory().describe(address(device), bytes).c_str());
  return false;
}

}  // namespace

extern "C" {

cudaError_t simtEnqueue(cudaStream_t stream, void (*work)(const void* data, SimtDefect*), void* data,
                        void (*release)(void*)) {
  const std::shared_ptr<void> kept(data, release);
  return guarded([&] {
    uint64_t id;
    if (!streamId(stream, id)) return cudaErrorInvalidResourceHandle;
    enqueue(id, [work, kept] {
      SimtDefect defect{};
      work(kept.get(), &defect);
      if (defect.text[0]) throw Defect(defect.text);
    });
    return cudaSuccess;
  });
}

const void* simtRead(const void* device, size_t bytes, const char* what, SimtDefect* defect) {
  if (!isAllocated(device, bytes, what, defect)) return nullptr;
  const uint8_t* shadow = deviceMemory().shadow(address(device));
  if (const void* unwritten = std::memchr(shadow, kUnwritten, bytes)) {
    std::snprintf(defect->text, sizeof defect->text, "%s reads bytes that were never written: byte %zu of %zu", what,
                  size_t(static_cast<const uint8_t*>(unwritten) - shadow), bytes);
    return nullptr;
  }
  return deviceMemory().bytes(address(device));
}

void* simtWrite(void* device, size_t bytes, const char* what, SimtDefect* defect) {
  if (!isAllocated(device, bytes, what, defect)) return nullptr;
  std::memset(deviceMemory().shadow(address(device)), kWritten, bytes);
  return deviceMemory().bytes(address(device));
}
}
