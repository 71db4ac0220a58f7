// Where an address of an asynchronous operation or an mbarrier lies: in the shared memory of which block of the
// cluster.
#pragma once

#include "block.h"

namespace flowmap::simt {

struct SharedPlace {
  Block* owner = nullptr;
  uint64_t address = 0;  // as the owner itself uses it
  uint8_t* bytes() const { return &owner->shared[address - kSharedBase]; }
  uint8_t* shadow() const { return &owner->sharedShadow[address - kSharedBase]; }
  /** One number for the cluster's shared memory: what observers and tables go by. */
  uint64_t key() const { return owner->rank * kPeerStride + address; }
};

/** "shared+0x40", with its block where the cluster has several. */
std::string text(const SharedPlace&);

/** Fails where the bytes are not all in shared memory, of a block that has not ended, or are misaligned. */
SharedPlace sharedPlace(const Thread&, const Instruction&, Space, uint64_t address, uint32_t bytes, uint32_t alignment);

}  // namespace flowmap::simt
