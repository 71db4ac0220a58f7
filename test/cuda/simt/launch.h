// Runs a grid: its clusters (most of one block) are shared among OS threads; the first defect (of the lowest) is
// thrown.
#pragma once

#include "block.h"

namespace flowmap::simt {

void run(const Launch&, DeviceMemory&);
/** Instructions executed by all launches so far. */
uint64_t executedInstructions();

}  // namespace flowmap::simt
