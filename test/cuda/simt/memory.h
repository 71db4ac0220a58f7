// The memories of the pretended device. Device addresses lie in a reserved range that host code cannot touch; the bytes
// are elsewhere, with one shadow byte each that says whether it was ever written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace flowmap::simt {

// Windows of the generic address space. Neither shared nor local memory starts at 0, so kernels that assume so fail.
constexpr uint64_t kSharedBase = 1024;
constexpr uint64_t kLocalBase = 256;
constexpr uint64_t kSharedWindow = 1ull << 56, kLocalWindow = 2ull << 56, kParameterWindow = 3ull << 56;
constexpr uint64_t kWindowMask = 0xffull << 56;
// Addresses of the shared memory of a block of the cluster, by mapa: (its rank + 1) · kPeerStride + the address that
// the block itself uses.
constexpr uint64_t kPeerStride = 1ull << 24;
constexpr uint8_t kUnwritten = 0, kWritten = 1;
constexpr uint8_t kPoison = 0xff;  // all-ones bytes are NaN in every float format

struct Allocation {
  uint64_t address = 0, size = 0;
  bool live = false;
};

class DeviceMemory {
 public:
  explicit DeviceMemory(uint64_t capacity);
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  uint64_t allocate(uint64_t size);  // 0 when it does not fit; the bytes are poisoned
  bool free(uint64_t address);       // false when no allocation starts there
  uint64_t capacity() const { return capacity_; }
  uint64_t used() const;

  bool contains(uint64_t address) const { return address - base_ < reserved_; }
  /** True when the bytes lie in one live allocation. */
  bool valid(uint64_t address, uint64_t size) const {
    const uint64_t at = address - base_;
    if (at >= reserved_) return false;
    const Extent& extent = extents_[at >> kGranuleBits];
    return address + size <= extent.end && address >= extent.begin;
  }
  uint8_t* bytes(uint64_t address) const { return data_ + (address - base_); }
  uint8_t* shadow(uint64_t address) const { return shadow_ + (address - base_); }
  /** "8 bytes past the end of an allocation of 25600 bytes". */
  std::string describe(uint64_t address, uint64_t size) const;

 private:
  static constexpr int kGranuleBits = 8;
  struct Extent {
    uint64_t begin, end;  // of the allocation that the granule belongs to; both 0 when free
  };
  uint64_t capacity_, reserved_, base_ = 0, used_ = 0;
  uint8_t *data_ = nullptr, *shadow_ = nullptr;
  Extent* extents_ = nullptr;
  std::map<uint64_t, Allocation> allocations_;  // by address, live and once freed (for reports)
  std::map<uint64_t, uint64_t> holes_;          // free ranges: offset → size
  mutable std::mutex mutex_;
};

/** The one device of the process. */
DeviceMemory& deviceMemory();

}  // namespace flowmap::simt
