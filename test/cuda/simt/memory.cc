// Device memory: a reserved range of addresses, with bytes and shadow mapped elsewhere.
#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "options.h"
#include "report.h"

namespace flowmap::simt {

namespace {

constexpr uint64_t kAlignment = 256;

void* reserve(uint64_t bytes, int protection) {
  void* mapped = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::runtime_error("the emulator cannot reserve its device memory");
  return mapped;
}

// Large ranges give their pages back; what comes anew is zero, which is kUnwritten.
void clear(uint8_t* bytes, uint64_t size) {
  constexpr uint64_t page = 4096;
  const uint64_t begin = (reinterpret_cast<uint64_t>(bytes) + page - 1) / page * page;
  const uint64_t end = (reinterpret_cast<uint64_t>(bytes) + size) / page * page;
  if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  const uint64_t first = reinterpret_cast<uint64_t>(bytes), last = first + size;
  if (end <= begin) {
    std::memset(bytes, 0, size);
  } else {
    std::memset(bytes, 0, begin - first);
    std::memset(reinterpret_cast<void*>(end), 0, last - end);
  }
}

}  // namespace

// Four times the capacity in addresses: freed ranges are reused late, so stale pointers are found.
DeviceMemory::DeviceMemory(uint64_t capacity) : capacity_(capacity), reserved_(4 * capacity + (64ull << 20)) {
  reserved_ = (reserved_ + 4095) / 4096 * 4096;
  base_ = reinterpret_cast<uint64_t>(reserve(reserved_, PROT_NONE));
  data_ = static_cast<uint8_t*>(reserve(reserved_, PROT_READ | PROT_WRITE));
  shadow_ = static_cast<uint8_t*>(reserve(reserved_, PROT_READ | PROT_WRITE));
  const uint64_t granules = (reserved_ >> kGranuleBits) + 1;
  extents_ = static_cast<Extent*>(reserve(granules * sizeof(Extent), PROT_READ | PROT_WRITE));
  holes_[kAlignment] = reserved_ - kAlignment;
}

DeviceMemory::~DeviceMemory() {
  munmap(reinterpret_cast<void*>(base_), reserved_);
  munmap(data_, reserved_);
  munmap(shadow_, reserved_);
  munmap(extents_, ((reserved_ >> kGranuleBits) + 1) * sizeof(Extent));
}

uint64_t DeviceMemory::used() const {
  const std::lock_guard lock(mutex_);
  return used_;
}

uint64_t DeviceMemory::allocate(uint64_t size) {
  const std::lock_guard lock(mutex_);
  if (size > capacity_ || used_ + size > capacity_) return 0;
  // A granule stays free behind each allocation, so that the first byte past its end is nobody's.
  const uint64_t span = (std::max<uint64_t>(size, 1) + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  auto hole = std::prev(holes_.end());
  if (hole->second < span) {
    hole = std::find_if(holes_.begin(), holes_.end(), [&](const auto& h) { return h.second >= span; });
    if (hole == holes_.end()) return 0;
  }
  const auto [offset, room] = *hole;
  holes_.erase(hole);
  if (room > span) holes_[offset + span] = room - span;
  const uint64_t address = base_ + offset;
  auto stale = allocations_.lower_bound(address);
  while (stale != allocations_.end() && stale->first < address + span) stale = allocations_.erase(stale);
  allocations_[address] = {address, size, true};
  used_ += size;
  std::fill_n(extents_ + (offset >> kGranuleBits), (span >> kGranuleBits) - 1, Extent{address, address + size});
  std::memset(data_ + offset, kPoison, size);
  std::memset(shadow_ + offset, kUnwritten, size);
  return address;
}

bool DeviceMemory::free(uint64_t address) {
  const std::lock_guard lock(mutex_);
  const auto found = allocations_.find(address);
  if (found == allocations_.end() || !found->second.live) return false;
  const uint64_t size = found->second.size;
  found->second.live = false;
  used_ -= size;
  uint64_t offset = address - base_;
  uint64_t span = (std::max<uint64_t>(size, 1) + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  std::fill_n(extents_ + (offset >> kGranuleBits), (span >> kGranuleBits) - 1, Extent{0, 0});
  clear(data_ + offset, size);
  clear(shadow_ + offset, size);
  auto next = holes_.lower_bound(offset);
  if (next != holes_.end() && next->first == offset + span && std::next(next) != holes_.end()) {
    // The last hole stays apart: it is where new allocations go.
    span += next->second;
    next = holes_.erase(next);
  }
  if (next != holes_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == offset) {
      before->second += span;
      return true;
    }
  }
  holes_[offset] = span;
  return true;
}

std::string DeviceMemory::describe(uint64_t address, uint64_t size) const {
  const std::lock_guard lock(mutex_);
  auto next = allocations_.upper_bound(address);
  if (next == allocations_.begin()) return "outside every allocation";
  const Allocation& a = std::prev(next)->second;
  const auto bytes = static_cast<unsigned long long>(a.size);
  const uint64_t end = a.address + a.size;
  if (!a.live && address < end) return format("in a freed allocation of %llu bytes", bytes);
  if (address + size <= end)
    return format("byte %llu of an allocation of %llu bytes", (unsigned long long)(address - a.address), bytes);
  if (address < end + (1 << 20)) {
    return format("%llu bytes past the end of %s of %llu bytes", (unsigned long long)(address + size - end),
                  a.live ? "an allocation" : "a freed allocation", bytes);
  }
  return "outside every allocation";
}

DeviceMemory& deviceMemory() {
  // Never destroyed: other threads may still run when the process ends.
  static DeviceMemory& memory = *new DeviceMemory(options().memory);
  return memory;
}

}  // namespace flowmap::simt
