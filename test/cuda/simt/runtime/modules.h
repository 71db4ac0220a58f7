// What the program's registration stubs announced: fat binaries, kernels, variables. PTX is parsed at the first use.
#pragma once

#include "../program.h"

namespace flowmap::simt {

/** The kernel behind a host function; null when it is of no module. Throws UnknownPtx. */
const Kernel* findKernel(const void* hostFunction);
/** The device variable behind a host symbol; address 0 when there is none. */
GlobalVariable findVariable(const void* hostSymbol);

}  // namespace flowmap::simt
