// Where cuBLASLt may be, in the order of preference: the user's word, beside this library (the stand-in of the
// emulator), a CUDA toolkit, the Python package nvidia-cublas, the dynamic linker's own path.
#include "cuda/cublas.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <type_traits>
#include <vector>

namespace flowmap::cuda {
namespace {

namespace fs = std::filesystem;

constexpr char kFile[] = "libcublasLt.so.13";
constexpr int kMajor = 13;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

bool isThere(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

fs::path ownFolder() {
  Dl_info info{};
  if (!dladdr(reinterpret_cast<const void*>(&cublas), &info) || !info.dli_fname) return {};
  std::error_code ignored;
  return fs::absolute(info.dli_fname, ignored).parent_path();
}

// The folders in `folder` whose names begin with `prefix`, the last by name first: python3.13 before python3.12.
std::vector<fs::path> startingWith(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder, ignored)) {
    if (entry.path().filename().string().rfind(prefix, 0) == 0) found.push_back(entry.path());
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

void addToolkits(std::vector<fs::path>& folders) {
  std::vector<fs::path> homes;
  for (const char* name : {"CUDA_HOME", "CUDA_PATH"}) {
    if (const std::string home = environment(name); !home.empty()) homes.push_back(home);
  }
  homes.push_back("/usr/local/cuda");
  for (const fs::path& home : startingWith("/usr/local", "cuda-13")) homes.push_back(home);
  for (const fs::path& home : homes) {
    for (const char* below : {"lib64", "lib", "targets/x86_64-linux/lib"}) folders.push_back(home / below);
  }
}

void addPythonPackages(std::vector<fs::path>& folders) {
  std::vector<fs::path> packages;
  const auto addPrefix = [&](const fs::path& prefix) {
    for (const fs::path& python : startingWith(prefix / "lib", "python3")) {
      for (const char* below : {"site-packages", "dist-packages"}) packages.push_back(python / below);
    }
  };
  if (const std::string prefix = environment("VIRTUAL_ENV"); !prefix.empty()) addPrefix(prefix);
  if (const std::string prefix = environment("CONDA_PREFIX"); !prefix.empty()) {
    folders.push_back(fs::path(prefix) / "lib");  // conda's own package of cuBLAS
    addPrefix(prefix);
  }
  if (const std::string home = environment("HOME"); !home.empty()) addPrefix(fs::path(home) / ".local");
  addPrefix("/usr/local");
  addPrefix("/usr");
  for (const fs::path& package : packages) {
    if (!isThere(package)) continue;
    folders.push_back(package / "nvidia/cu13/lib");
    folders.push_back(package / "nvidia/cublas/lib");
  }
}

std::string versionText(size_t version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

// Looks up all of the library; says what is wrong with it, or nothing.
std::string bindAll(Cublas& found, void* handle) {
  std::string missing;
  cublaslt::Api& api = found.api;
  const auto bind = [&](auto& entry, const char* name) {
    entry = reinterpret_cast<std::decay_t<decltype(entry)>>(dlsym(handle, name));
    if (!entry && missing.empty()) missing = name;
  };
  bind(api.cublasLtGetVersion, "cublasLtGetVersion");
  bind(api.cublasLtGetStatusName, "cublasLtGetStatusName");
  bind(api.cublasLtGetStatusString, "cublasLtGetStatusString");
  bind(api.cublasLtCreate, "cublasLtCreate");
  bind(api.cublasLtMatrixLayoutCreate, "cublasLtMatrixLayoutCreate");
  bind(api.cublasLtMatrixLayoutSetAttribute, "cublasLtMatrixLayoutSetAttribute");
  bind(api.cublasLtMatrixLayoutDestroy, "cublasLtMatrixLayoutDestroy");
  bind(api.cublasLtMatmulDescCreate, "cublasLtMatmulDescCreate");
  bind(api.cublasLtMatmulDescSetAttribute, "cublasLtMatmulDescSetAttribute");
  bind(api.cublasLtMatmulDescDestroy, "cublasLtMatmulDescDestroy");
  bind(api.cublasLtMatmulPreferenceCreate, "cublasLtMatmulPreferenceCreate");
  bind(api.cublasLtMatmulPreferenceSetAttribute, "cublasLtMatmulPreferenceSetAttribute");
  bind(api.cublasLtMatmulPreferenceDestroy, "cublasLtMatmulPreferenceDestroy");
  bind(api.cublasLtMatmulAlgoGetHeuristic, "cublasLtMatmulAlgoGetHeuristic");
  bind(api.cublasLtMatmul, "cublasLtMatmul");
  if (!missing.empty()) return "it has no " + missing;
  const size_t version = api.cublasLtGetVersion();
  if (version / 10000 != kMajor) return "it is version " + versionText(version) + ", 13 is needed";
  found.version = versionText(version);
  return "";
}

// Says why it cannot be used, or nothing. Never unloaded: its threads and kernels last as long as the process.
std::string open(Cublas& found, const fs::path& path) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (!handle) {
    const char* said = dlerror();
    return said ? said : "no reason given";
  }
  if (const std::string wrong = bindAll(found, handle); !wrong.empty()) {
    dlclose(handle);
    return wrong;
  }
  Dl_info info{};
  const bool known = dladdr(reinterpret_cast<const void*>(found.api.cublasLtGetVersion), &info) && info.dli_fname;
  found.path = known ? info.dli_fname : path.string();
  found.found = true;
  return "";
}

void openNamed(Cublas& found, const fs::path& named) {
  std::error_code ignored;
  const fs::path path = fs::absolute(fs::is_directory(named, ignored) ? named / kFile : named, ignored);
  const std::string says = "FLOWMAP_CUBLAS is '" + named.string() + "': ";
  if (!isThere(path)) {
    found.reason = says + path.string() + " is not there";
  } else if (const std::string wrong = open(found, path); !wrong.empty()) {
    found.reason = says + path.string() + " cannot be used: " + wrong;
  }
}

Cublas search() {
  Cublas found;
  if (const std::string named = environment("FLOWMAP_CUBLAS"); !named.empty()) {
    openNamed(found, named);
    return found;
  }
  std::vector<fs::path> folders{ownFolder()};
  // The real one would take the emulator's addresses for those of a GPU.
  const bool emulated = environment("FLOWMAP_CUDA") == "emulated";
  if (!emulated) {
    addToolkits(folders);
    addPythonPackages(folders);
  }
  std::string places;
  for (const fs::path& folder : folders) {
    const fs::path path = folder / kFile;
    places += (places.empty() ? "" : ", ") + folder.string();
    if (!isThere(path)) continue;
    const std::string wrong = open(found, path);
    if (found.found) return found;
    places += " (" + path.string() + " cannot be used: " + wrong + ")";
  }
  if (!emulated && open(found, kFile).empty()) return found;
  found.reason = std::string(kFile) + " (cuBLAS, which multiplies matrices on CUDA devices) was not found in " + places;
  found.reason += emulated ? ": the emulator's is built by `npm run build`"
                           : " or along the dynamic linker's path: install cuBLAS 13 of the CUDA toolkit or the Python "
                             "package nvidia-cublas, or set FLOWMAP_CUBLAS to the file or its folder";
  return found;
}

}  // namespace

const Cublas& cublas() {
  static const Cublas* found = new Cublas(search());
  return *found;
}

}  // namespace flowmap::cuda
