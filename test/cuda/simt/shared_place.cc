// Checks of addresses that are not accessed at once.
#include "shared_place.h"

#include "cluster.h"

namespace flowmap::simt {

std::string text(const SharedPlace& place) {
  const std::string at = format("shared+0x%llx", (unsigned long long)(place.address - kSharedBase));
  return place.owner->launch.cluster.count() == 1 ? at : at + format(" of block %u of the cluster", place.owner->rank);
}

SharedPlace sharedPlace(const Thread& thread, const Instruction& instruction, Space space, uint64_t address,
                        uint32_t bytes, uint32_t alignment) {
  Block& own = *thread.block;
  if (space == Space::generic) {
    if ((address & kWindowMask) != kSharedWindow) {
      thread.fail(format("%s of 0x%llx, which is not in shared memory", instruction.text, (unsigned long long)address));
    }
    address -= kSharedWindow;
    space = Space::cluster;
  } else {
    address = uint32_t(address);
  }
  const uint64_t peer = address / kPeerStride;
  if (peer > (space == Space::cluster ? own.cluster.size() : 0)) {
    thread.fail(format("%s of shared 0x%llx, which is not of this %s", instruction.text, (unsigned long long)address,
                       space == Space::cluster ? "cluster" : "block"));
  }
  SharedPlace place{peer ? &own.cluster.block(uint32_t(peer - 1)) : &own, address % kPeerStride};
  const uint64_t size = place.owner->shared.size();
  if (place.address < kSharedBase || place.address + bytes > kSharedBase + size) {
    thread.fail(format("%s of %u bytes at shared 0x%llx, outside the block's %zu bytes from 0x%llx", instruction.text,
                       bytes, (unsigned long long)place.address, size_t(size), (unsigned long long)kSharedBase));
  }
  if (place.address % alignment) {
    thread.fail(format("%s at shared 0x%llx, which is not a multiple of %u", instruction.text,
                       (unsigned long long)place.address, alignment));
  }
  if (place.owner->ended()) thread.fail(format("%s: block %u has ended", instruction.text, place.owner->rank));
  return place;
}

}  // namespace flowmap::simt
