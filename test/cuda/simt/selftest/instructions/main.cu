// Runs the self-test: one line of JSON per case; the exit status says whether all passed.
#include <chrono>
#include <cmath>
#include <limits>

#include "compare.cuh"

extern "C" uint64_t simtExecutedInstructions() __attribute__((weak));

namespace selftest {

namespace {
int failed = 0;
}

void report(const std::string& name, bool ok, const std::string& detail) {
  std::string escaped;
  for (const char c : detail) {
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += c == '\n' ? ' ' : c;
  }
  std::printf("{\"name\": \"%s\", \"right\": %s, \"error\": \"%s\"}\n", name.c_str(), ok ? "true" : "false",
              escaped.c_str());
  failed += !ok;
}

int failures() { return failed; }

void check(cudaError_t error, const char* what) {
  if (error != cudaSuccess) report(what, false, cudaGetErrorString(error));
}

template <>
std::vector<uint32_t> oddValues() {
  return {0,   1,      2,      3,      31,         32,         33,         63,         64,         100,
          255, 0x7fff, 0x8000, 0xffff, 0x12345678, 0x7fffffff, 0x80000000, 0xdeadbeef, 0xfffffffe, 0xffffffff};
}
template <>
std::vector<int32_t> oddValues() {
  std::vector<int32_t> values;
  for (const uint32_t value : oddValues<uint32_t>()) values.push_back(int32_t(value));
  return values;
}
template <>
std::vector<uint64_t> oddValues() {
  return {0,
          1,
          2,
          5,
          63,
          64,
          0x7fffffff,
          0x80000000,
          0xffffffff,
          0x100000000,
          0x123456789abcdef0,
          0x7fffffffffffffff,
          0x8000000000000000,
          0xfffffffffffffff0,
          0xffffffffffffffff};
}
template <>
std::vector<int64_t> oddValues() {
  std::vector<int64_t> values;
  for (const uint64_t value : oddValues<uint64_t>()) values.push_back(int64_t(value));
  return values;
}
template <>
std::vector<uint16_t> oddValues() {
  // As binary16 and bfloat16 too: zeros, denormals, ones, largest finite, infinities, NaN.
  return {0,      0x8000, 1,      0x8001, 0x3ff,  0x400,  0x7f,   0x80,   0x3c00, 0xbc00, 0x3c01, 0x3f80,
          0xbf80, 0x4248, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7f7f, 0x7f80, 0xff80, 0x7fff, 0x5555, 0x3555};
}
template <>
std::vector<int16_t> oddValues() {
  std::vector<int16_t> values;
  for (const uint16_t value : oddValues<uint16_t>()) values.push_back(int16_t(value));
  return values;
}
template <>
std::vector<float> oddValues() {
  using L = std::numeric_limits<float>;
  return {0.0f,
          -0.0f,
          1.0f,
          -1.0f,
          0.5f,
          1.5f,
          2.5f,
          -2.5f,
          0.1f,
          3.3333333f,
          -7.75f,
          1e-3f,
          65504.0f,
          65520.0f,
          2147483648.0f,
          -2147483904.0f,
          4294967296.0f,
          1e20f,
          16777217.0f,
          L::max(),
          L::lowest(),
          L::min(),
          L::denorm_min(),
          -L::min() / 3,
          L::infinity(),
          -L::infinity(),
          L::quiet_NaN(),
          1.00048828125f,
          5.9604645e-8f,
          2.98e-8f,
          0.33325195f};
}
template <>
std::vector<double> oddValues() {
  using L = std::numeric_limits<double>;
  std::vector<double> values;
  for (const float value : oddValues<float>()) values.push_back(value);
  for (const double value : {1.0 + 1e-16, 1.0 + 0x1p-24, 1.0 + 0x1p-24 + 0x1p-50, L::max(), L::min(), L::denorm_min(),
                             1e300, 9223372036854775807.0, -9223372036854775808.0, 0.1}) {
    values.push_back(value);
  }
  return values;
}

}  // namespace selftest

int main() {
  using namespace selftest;
  const auto start = std::chrono::steady_clock::now();
  testIntegers();
  testFloats();
  testConversions();
  testWarps();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::fprintf(stderr, "%.1f million instructions, %.2f s\n",
               simtExecutedInstructions ? double(simtExecutedInstructions()) * 1e-6 : 0.0, seconds);
  return failures() ? 1 : 0;
}
