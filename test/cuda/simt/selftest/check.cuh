// What the emulator's test programs share: named cases of which one or all run, with a line of JSON for each. After an
// error of a kernel the device is reset, so that cases do not depend on each other.
#pragma once

#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace selftest {

/** Memory of the device holding the vector's values. */
template <class T>
struct Device {
  explicit Device(const std::vector<T>& values) : size(values.size()) {
    cudaMalloc(reinterpret_cast<void**>(&data), size * sizeof(T));
    cudaMemcpy(data, values.data(), size * sizeof(T), cudaMemcpyHostToDevice);
  }
  explicit Device(size_t n) : size(n) {
    cudaMalloc(reinterpret_cast<void**>(&data), size * sizeof(T));
    cudaMemset(data, 0, size * sizeof(T));
  }
  Device(const Device&) = delete;
  ~Device() { cudaFree(data); }
  std::vector<T> read() const {
    std::vector<T> values(size);
    cudaMemcpy(values.data(), data, size * sizeof(T), cudaMemcpyDeviceToHost);
    return values;
  }
  T* data = nullptr;
  size_t size;
};

struct Stream {
  explicit Stream(unsigned flags = cudaStreamNonBlocking) { cudaStreamCreateWithFlags(&handle, flags); }
  Stream(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(handle); }
  cudaStream_t handle;
};

/** Repeatable values: a linear congruence's upper bits. */
struct Random {
  uint64_t state = 0x9e3779b97f4a7c15ull;
  uint32_t bits() {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return uint32_t(state >> 33) * 2u + uint32_t(state >> 63);
  }
  /** Multiples of 1/16 in [-4, 4): exact in every format, and so are short sums of their products. */
  float sixteenth() { return float(int(bits() >> 8 & 127) - 64) / 16.0f; }
};

inline std::string escaped(const char* text) {
  std::string result;
  for (; *text; ++text) {
    if (*text == '"' || *text == '\\') result += '\\';
    result += *text == '\n' ? ' ' : *text;
  }
  return result;
}

/** A case returns whether the values were right; an error of the device counts before that. */
struct Case {
  const char* name;
  bool (*run)();
};

inline void runCase(const Case& each) {
  const bool right = each.run();
  const cudaError_t work = cudaDeviceSynchronize(), last = cudaGetLastError();
  const cudaError_t error = work != cudaSuccess ? work : last;
  std::printf("{\"name\": \"%s\", \"right\": %s, \"error\": \"%s\"}\n", each.name, right ? "true" : "false",
              error == cudaSuccess ? "" : escaped(cudaGetErrorString(error)).c_str());
  std::fflush(stdout);
  if (error == cudaSuccess) return;
  cudaDeviceReset();
  cudaGetLastError();
}

/** Runs the cases named on the command line, or lists the names with --list. */
inline int runCases(const std::vector<Case>& cases, int count, char** arguments) {
  if (count > 1 && std::strcmp(arguments[1], "--list") == 0) {
    for (const Case& each : cases) std::printf("%s\n", each.name);
    return 0;
  }
  for (const Case& each : cases) {
    bool wanted = count == 1;
    for (int i = 1; i < count; ++i) wanted |= std::strcmp(arguments[i], each.name) == 0;
    if (wanted) runCase(each);
  }
  return 0;
}

}  // namespace selftest
