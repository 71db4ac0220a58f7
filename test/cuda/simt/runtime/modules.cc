// Registration by nvcc's stubs.
#include "modules.h"

#include <vector_types.h>

#include <map>
#include <memory>
#include <mutex>

#include "../options.h"
#include "../parser.h"
#include "fatbin.h"

namespace flowmap::simt {

namespace {

struct Registered {
  const void* fatBinary = nullptr;
  std::unique_ptr<Module> module;  // null until used
};
struct Name {
  Registered* binary = nullptr;
  std::string name;
};
struct Registry {
  std::mutex mutex;
  std::map<const void*, Name> kernels, variables;
};
Registry& registry() {
  static Registry& all = *new Registry;
  return all;
}

const Module& load(Registered& binary) {
  if (!binary.module) binary.module = parse(choosePtx(binary.fatBinary, options().sm), deviceMemory());
  return *binary.module;
}

}  // namespace

const Kernel* findKernel(const void* hostFunction) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().kernels.find(hostFunction);
  if (found == registry().kernels.end()) return nullptr;
  const Module& module = load(*found->second.binary);
  const auto kernel = module.kernels.find(found->second.name);
  return kernel == module.kernels.end() ? nullptr : kernel->second.get();
}

GlobalVariable findVariable(const void* hostSymbol) {
  const std::lock_guard lock(registry().mutex);
  const auto found = registry().variables.find(hostSymbol);
  if (found == registry().variables.end()) return {0, 0};
  const Module& module = load(*found->second.binary);
  const auto variable = module.globals.find(found->second.name);
  return variable == module.globals.end() ? GlobalVariable{0, 0} : variable->second;
}

}  // namespace flowmap::simt

using namespace flowmap::simt;

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  struct Wrapper {
    int magic, version;
    const void* data;
    void* file;
  };
  auto* binary = new Registered;
  binary->fatBinary = static_cast<Wrapper*>(wrapper)->data;
  return reinterpret_cast<void**>(binary);
}
void __cudaRegisterFatBinaryEnd(void**) {}
// Called when the process (or the library) goes; streams may still hold its kernels, so nothing is released.
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }

void __cudaRegisterFunction(void** binary, const char* hostFunction, char*, const char* name, int, uint3*, uint3*,
                            dim3*, dim3*, int*) {
  const std::lock_guard lock(registry().mutex);
  registry().kernels[hostFunction] = {reinterpret_cast<Registered*>(binary), name};
}
void __cudaRegisterVar(void** binary, char* hostVariable, char*, const char* name, int, size_t, int, int) {
  const std::lock_guard lock(registry().mutex);
  registry().variables[hostVariable] = {reinterpret_cast<Registered*>(binary), name};
}
}
