// What bulk copies of plain memory and of tensors share.
#pragma once

#include <vector>

#include "bulk_engine.h"
#include "decoder.h"
#include "tensor_map.h"

namespace flowmap::simt {

/** Adds elements to elements. */
Combine sumOf(MapElement);

/** Slot of an address operand without an offset. */
Slot bulkAddress(Statement&, Decoder&, size_t operand);

struct BulkTargetSlots {
  Slot to, mbarrier, mask;  // mask: kSinkSlot where the copy goes to one block
};
struct BulkTarget {
  SharedPlace to, mbarrier;
};
/** Where a load goes: one place, or the same place of several blocks of the cluster. */
std::vector<BulkTarget> bulkTargets(Thread&, const Instruction&, const BulkTargetSlots&, uint32_t bytes,
                                    uint32_t alignment);

/** Takes the spaces and the way of completion; true for loads into shared memory, whose source is left to be taken. */
bool takeBulkLoad(Statement&, Instruction&);
void takeCacheHint(Statement&);

}  // namespace flowmap::simt
