// The self-test's tools: an instruction is a struct with its device code and its definition on the host side by side;
// both run on every combination of odd values, and every case is a line of JSON.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

namespace selftest {

void report(const std::string& name, bool ok, const std::string& detail = "");
int failures();

template <class T>
std::vector<T> oddValues();

template <class T>
std::string spell(T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(bits));
  return text;
}

/** The same bits; any NaN equals any NaN. */
template <class T>
bool same(T a, T b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (a != a && b != b);
}

void check(cudaError_t, const char* what);

template <class T>
T* upload(const std::vector<T>& values) {
  T* device = nullptr;
  check(cudaMalloc(&device, values.size() * sizeof(T)), "cudaMalloc");
  check(cudaMemcpy(device, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "copy");
  return device;
}

template <class T>
std::vector<T> download(const T* device, size_t count) {
  std::vector<T> values(count);
  check(cudaMemcpy(values.data(), device, count * sizeof(T), cudaMemcpyDeviceToHost), "copy");
  return values;
}

template <class Case, class R, class... A>
__global__ void applyDevice(R* results, int count, const A*... arguments) {
  const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < count) results[i] = Case::device(arguments[i]...);
}

template <class Case, class R, class... A>
void compare(const char* name, std::vector<A>... arguments) {
  const size_t count = std::get<0>(std::tie(arguments...)).size();
  R* results = upload(std::vector<R>(count));
  std::tuple<A*...> device(upload(arguments)...);
  std::apply(
      [&](auto*... a) { applyDevice<Case, R, A...><<<unsigned(count + 127) / 128, 128>>>(results, int(count), a...); },
      device);
  check(cudaGetLastError(), name);
  const std::vector<R> got = download(results, count);
  std::apply([&](auto*... a) { (cudaFree(a), ...); }, device);
  cudaFree(results);
  for (size_t i = 0; i < count; ++i) {
    const R expected = Case::host(arguments[i]...);
    if (same(expected, got[i])) continue;
    std::string detail;
    ((detail += spell(arguments[i]) + " "), ...);
    return report(name, false, detail + "gives " + spell(got[i]) + ", not " + spell(expected));
  }
  report(name, true);
}

// Every combination of the odd values of one, two or three types.
template <class Case, class R, class A>
void unary(const char* name) {
  compare<Case, R, A>(name, oddValues<A>());
}
template <class Case, class R, class A, class B>
void binary(const char* name) {
  std::vector<A> a;
  std::vector<B> b;
  for (A x : oddValues<A>()) {
    for (B y : oddValues<B>()) a.push_back(x), b.push_back(y);
  }
  compare<Case, R, A, B>(name, a, b);
}
template <class Case, class R, class A, class B, class C>
void ternary(const char* name) {
  std::vector<A> a;
  std::vector<B> b;
  std::vector<C> c;
  for (A x : oddValues<A>()) {
    for (B y : oddValues<B>()) {
      for (C z : oddValues<C>()) a.push_back(x), b.push_back(y), c.push_back(z);
    }
  }
  compare<Case, R, A, B, C>(name, a, b, c);
}

// One per file.
void testIntegers();
void testFloats();
void testConversions();
void testWarps();
void testOrdinaryCode();
void testStreams();
void testDefects();

}  // namespace selftest
