// What the conformance programs share: repeatable data, and one line of JSON per case with the bits that the device
// gave.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace conformance {

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(error));
  std::exit(1);
}

/** How a result is compared: as bits, or as numbers that may differ by a tolerance where the hardware rounds. */
enum class As { bits, float32, halfPairs };

class Words {
 public:
  explicit Words(size_t count) : count_(count) {
    check(cudaMalloc(reinterpret_cast<void**>(&data_), 4 * count));
    check(cudaMemset(data_, 0, 4 * count));
  }
  explicit Words(const std::vector<uint32_t>& values) : Words(values.size()) {
    check(cudaMemcpy(data_, values.data(), 4 * count_, cudaMemcpyHostToDevice));
  }
  Words(const Words&) = delete;
  ~Words() { cudaFree(data_); }
  uint32_t* data() const { return data_; }

  void record(const char* name, As as = As::bits, double tolerance = 0) const {
    std::vector<uint32_t> values(count_);
    check(cudaGetLastError());
    check(cudaMemcpy(values.data(), data_, 4 * count_, cudaMemcpyDeviceToHost));
    static constexpr const char* kNames[] = {"bits", "float32", "halfPairs"};
    std::printf("{\"name\": \"%s\", \"as\": \"%s\", \"tolerance\": %g, \"words\": \"", name, kNames[int(as)],
                tolerance);
    for (size_t i = 0; i < count_; ++i) std::printf(i ? " %08x" : "%08x", values[i]);
    std::printf("\"}\n");
  }

 private:
  size_t count_;
  uint32_t* data_ = nullptr;
};

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 1) {}
  uint32_t bits() {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return uint32_t(state_ >> 32);
  }
  std::vector<uint32_t> words(size_t count) {
    std::vector<uint32_t> values(count);
    for (uint32_t& value : values) value = bits();
    return values;
  }
  /** In [-1, 1), all bits of the mantissa used. */
  float real() { return float(int32_t(bits())) * 0x1p-31f; }
  /** Multiples of 1/16 in [-4, 4): products and short sums of them are exact, in any order. */
  float sixteenth() { return float(int(bits() >> 25) - 64) / 16.0f; }

 private:
  uint64_t state_;
};

inline void recordDevice() {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0));
  std::printf("{\"device\": \"%s\", \"capability\": \"%d.%d\"}\n", properties.name, properties.major, properties.minor);
}

void recordCopies();
void recordTiles();
void recordProducts();
void recordBarriers();

}  // namespace conformance
