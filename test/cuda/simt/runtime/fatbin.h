// Finds PTX in the fat binaries that nvcc embeds.
#pragma once

#include <string>

namespace flowmap::simt {

/** The PTX of the newest target that compute capability `sm` can run. Throws UnknownPtx when there is none. */
std::string choosePtx(const void* fatBinary, int sm);

}  // namespace flowmap::simt
