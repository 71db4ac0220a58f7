// What a device library, opened at run time, gives the addon: see csrc/core/cuda_library.h. Both must be of one build,
// since C++ objects cross between them; so the identity is compared before anything else is touched.
#pragma once

#include <cstdint>
#include <string>

#include "core/device.h"

namespace flowmap {

struct DeviceFacts {
  std::string name;
  uint64_t memoryBytes = 0;
  uint64_t l2Bytes = 0;      // of the second-level cache
  int major = 0, minor = 0;  // compute capability
};

// The library of matrix products that the device library opens at run time; where there is none, `reason` says why.
struct ProductLibrary {
  std::string path, version, reason;
};

struct DeviceLibrary {
  const char* targets;     // what kernels were compiled for: "sm_80 compute_80"
  int runtimeVersion;      // of CUDA: 13000 is 13.0
  int (*driverVersion)();  // the newest CUDA the driver serves; 0 where there is none
  // How many devices there are; where none, `reason` says why.
  int (*count)(std::string& reason);
  DeviceFacts (*describe)(int ordinal);
  ProductLibrary (*products)();  // opens it
  // Throws Error(DeviceUnavailable).
  DeviceParts (*open)(int ordinal, const std::string& name);
};

using LibraryIdentity = const char* (*)();
using LibraryEntry = const DeviceLibrary* (*)();
inline constexpr char kIdentitySymbol[] = "flowmapDeviceLibraryIdentity";
inline constexpr char kEntrySymbol[] = "flowmapDeviceLibrary";

}  // namespace flowmap
