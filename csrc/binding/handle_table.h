// Tensors as JavaScript holds them: numbers, checked at every use, so that no JavaScript value can reach freed memory.
#pragma once

#include <napi.h>

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace flowmap::binding {

class HandleTable {
 public:
  explicit HandleTable(napi_env env) : env_(env) {}

  // A handle is slot + generation · 2^24: a slot used again has another generation, so stale handles are recognised.
  double insert(Tensor tensor) {
    uint32_t slot;
    if (free_.empty()) {
      if (slots_.size() >= kSlots) fail(ErrorCode::OutOfMemory, "tensor", "more than ", kSlots, " live tensors");
      slot = static_cast<uint32_t>(slots_.size());
      slots_.emplace_back();
    } else {
      slot = free_.back();
      free_.pop_back();
    }
    bytes_ += tensor.bytes();
    slots_[slot].tensor = std::move(tensor);
    return static_cast<double>(slots_[slot].generation * kSlots + slot);
  }

  // Null where the number is not the handle of a live tensor.
  const Tensor* find(double handle) const {
    if (!(handle >= 0) || handle >= 0x1p53 || handle != static_cast<double>(static_cast<uint64_t>(handle))) {
      return nullptr;
    }
    const uint64_t bits = static_cast<uint64_t>(handle);
    const uint64_t slot = bits % kSlots;
    if (slot >= slots_.size() || slots_[slot].generation != bits / kSlots || !slots_[slot].tensor) return nullptr;
    return &slots_[slot].tensor;
  }

  bool erase(double handle) {
    const Tensor* tensor = find(handle);
    if (!tensor) return false;
    const uint32_t slot = static_cast<uint32_t>(static_cast<uint64_t>(handle) % kSlots);
    bytes_ -= tensor->bytes();
    slots_[slot].tensor = Tensor();
    slots_[slot].generation = (slots_[slot].generation + 1) % kGenerations;
    if (slots_[slot].watcher) napi_delete_reference(env_, slots_[slot].watcher);
    slots_[slot].watcher = nullptr;
    free_.push_back(slot);
    return true;
  }

  // What makes the collector erase the handle of a live tensor; the table deletes it with the handle, and finalisers
  // that are not to come any more cost no time. One of a handle that has one already takes its place.
  void setWatcher(double handle, napi_ref watcher) {
    napi_ref& place = slots_[static_cast<uint64_t>(handle) % kSlots].watcher;
    if (place) napi_delete_reference(env_, place);
    place = watcher;
  }

  std::vector<Tensor> tensors() const {
    std::vector<Tensor> all;
    all.reserve(live());
    for (const Slot& slot : slots_) {
      if (slot.tensor) all.push_back(slot.tensor);
    }
    return all;
  }

  size_t live() const { return slots_.size() - free_.size(); }
  // Sum over live handles; storage shared by several handles counts once for each.
  size_t bytes() const { return bytes_; }

 private:
  static constexpr uint64_t kSlots = uint64_t{1} << 24;
  static constexpr uint64_t kGenerations = uint64_t{1} << 29;
  struct Slot {
    Tensor tensor;
    uint64_t generation = 0;
    napi_ref watcher = nullptr;
  };
  napi_env env_;
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  size_t bytes_ = 0;
};

}  // namespace flowmap::binding
