// libflowmap_cuda.so, opened by absolute path beside the addon when CUDA is first asked for, never before.
#pragma once

#include <string>

#include "core/device_library.h"

namespace flowmap {

struct CudaLibrary {
  const DeviceLibrary* library = nullptr;  // null where it could not be opened
  std::string path;                        // of the library that was tried
  std::string reason;                      // why it could not be opened
  bool emulated = false;                   // FLOWMAP_CUDA=emulated: kernels are interpreted, for tests
};

// Opens it at the first call; the answer stays the same for the life of the process.
const CudaLibrary& cudaLibrary();

}  // namespace flowmap
