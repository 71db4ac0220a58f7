#include "core/cuda_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "build_identity.h"

namespace flowmap {
namespace {

namespace fs = std::filesystem;

fs::path ownFolder() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<const void*>(&cudaLibrary), &info) || !info.dli_fname) return {};
  std::error_code ignored;
  const fs::path absolute = fs::absolute(info.dli_fname, ignored);
  return absolute.parent_path();
}

// Opened by path or not at all: a library found along a search path could be anything.
void* openFile(const fs::path& path, int flags, std::string& reason) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | flags);
  if (!handle) {
    const char* said = dlerror();
    reason = "it could not be opened: " + std::string(said ? said : "no reason given");
  }
  return handle;
}

// The emulator's folder: beside build/Release, or in a build folder that has the addon itself.
fs::path emulatedFolder(const fs::path& own) {
  std::error_code ignored;
  const fs::path inside = own / "cuda-emulated";
  return fs::exists(inside, ignored) ? inside : own.parent_path() / "cuda-emulated";
}

void bindEntry(CudaLibrary& found, void* handle) {
  const auto identity = reinterpret_cast<LibraryIdentity>(dlsym(handle, kIdentitySymbol));
  const auto entry = reinterpret_cast<LibraryEntry>(dlsym(handle, kEntrySymbol));
  if (!identity || !entry) {
    found.reason = "it is not a device library of flowmap";
  } else if (std::strcmp(identity(), kBuildIdentity) != 0) {
    found.reason = "it is of another build (" + std::string(identity()) + ") than the addon (" + kBuildIdentity + ")";
  } else {
    found.library = entry();
  }
}

CudaLibrary open() {
  CudaLibrary found;
  const char* mode = std::getenv("FLOWMAP_CUDA");
  if (mode && *mode && std::strcmp(mode, "emulated") != 0) {
    found.reason = "FLOWMAP_CUDA must be 'emulated' or unset, got '" + std::string(mode) + "'";
    return found;
  }
  found.emulated = mode && *mode;
  const fs::path own = ownFolder();
  const fs::path folder = found.emulated ? emulatedFolder(own) : own;
  const fs::path path = folder / "libflowmap_cuda.so";
  found.path = path.string();
  std::error_code ignored;
  if (!fs::exists(path, ignored)) {
    found.reason = "it is not there: this build was made without nvcc";
    return found;
  }
  if (found.emulated) {
    // Its symbols must be the ones the library finds, so they go into the global scope.
    const fs::path runtime = folder / "libcudart.so.13";
    if (!openFile(runtime, RTLD_GLOBAL, found.reason)) {
      found.reason = "the emulated runtime " + runtime.string() + ": " + found.reason;
      return found;
    }
  }
  if (void* handle = openFile(path, RTLD_LOCAL, found.reason)) bindEntry(found, handle);
  return found;
}

}  // namespace

const CudaLibrary& cudaLibrary() {
  static const CudaLibrary* found = new CudaLibrary(open());
  return *found;
}

}  // namespace flowmap
