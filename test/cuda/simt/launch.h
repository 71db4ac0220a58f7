// Runs a grid: its blocks are shared among OS threads; the first defect (of the lowest block) is thrown.
#pragma once

#include "block.h"

namespace flowmap::simt {

void run(const Launch&, DeviceMemory&);
/** Instructions executed by all launches so far. */
uint64_t executedInstructions();

}  // namespace flowmap::simt
