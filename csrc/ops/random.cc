#include "ops/random.h"

#include "core/check.h"
#include "core/launch.h"
#include "core/philox.h"

namespace flowmap::ops {
namespace {

void checkSequence(const char* op, int64_t seed, int64_t offset) {
  if (seed < 0) fail(ErrorCode::Argument, op, "seed must be at least 0, got ", seed);
  if (offset < 0) fail(ErrorCode::Argument, op, "offset must be at least 0, got ", offset);
}

void checkHost(const char* op, int64_t seed, int64_t offset, int64_t n) {
  constexpr int64_t kMost = int64_t{1} << 24;
  checkSequence(op, seed, offset);
  if (n < 0 || n > kMost) fail(ErrorCode::Argument, op, "n must be in [0, ", kMost, "], got ", n);
}

// Seed and offset vary from step to step. Both are below 2^53, as JavaScript gave them.
template <class Draw>
void launchDraw(const char* op, const Tensor& out, int64_t seed, int64_t offset, Draw draw) {
  launchVarying(
      op, out.device(), {out}, {}, {static_cast<double>(seed), static_cast<double>(offset)},
      [op](const Numbers& numbers) {
        for (const double number : numbers) {
          if (!(number >= 0 && number <= 0x1p53)) {
            fail(ErrorCode::Argument, op, "seed and offset must be in [0, 2^53], got ", number);
          }
        }
      },
      [draw](Backend& backend, const Operands& of, const Numbers& numbers) {
        draw(backend, of.outputs[0], static_cast<int64_t>(numbers[0]), static_cast<int64_t>(numbers[1]));
      });
}

}  // namespace

double randomBlocks(int64_t n, DType dtype) {
  if (n < 0) fail(ErrorCode::Argument, "randomBlocks", "n must be at least 0, got ", n);
  const int64_t perBlock = dtype == DType::Float64 ? 2 : 4;
  return static_cast<double>((n + perBlock - 1) / perBlock);
}

Tensor randomUniform(Device& device, const Shape& shape, DType dtype, int64_t seed, int64_t offset, double low,
                     double high) {
  const char* op = "randomUniform";
  if (!isFloating(dtype)) fail(ErrorCode::DType, op, "dtype must be a floating type, got ", dtypeName(dtype));
  checkSizes(op, "shape", shape, dtype);
  checkSequence(op, seed, offset);
  checkFinite(op, "low", low);
  checkFinite(op, "high", high);
  if (low > high) fail(ErrorCode::Argument, op, "low must not exceed high, got ", low, " and ", high);
  const Tensor out = Tensor::empty(device, shape, dtype);
  launchDraw(op, out, seed, offset, [=](Backend& backend, const Tensor& to, int64_t from, int64_t at) {
    backend.randomUniform(to, from, at, low, high);
  });
  return out;
}

Tensor randomNormal(Device& device, const Shape& shape, DType dtype, int64_t seed, int64_t offset) {
  const char* op = "randomNormal";
  if (!isFloating(dtype)) fail(ErrorCode::DType, op, "dtype must be a floating type, got ", dtypeName(dtype));
  checkSizes(op, "shape", shape, dtype);
  checkSequence(op, seed, offset);
  const Tensor out = Tensor::empty(device, shape, dtype);
  launchDraw(op, out, seed, offset,
             [](Backend& backend, const Tensor& to, int64_t from, int64_t at) { backend.randomNormal(to, from, at); });
  return out;
}

Tensor randomIntegers(Device& device, const Shape& shape, int64_t seed, int64_t offset, int64_t low, int64_t high) {
  const char* op = "randomIntegers";
  checkSizes(op, "shape", shape, DType::Int32);
  checkSequence(op, seed, offset);
  constexpr int64_t kMost = int64_t{1} << 31;
  if (low < -kMost || high > kMost || low >= high) {
    fail(ErrorCode::Argument, op, "[low, high) must be a range of 32-bit integers, got [", low, ", ", high, ")");
  }
  const Tensor out = Tensor::empty(device, shape, DType::Int32);
  launchDraw(op, out, seed, offset, [=](Backend& backend, const Tensor& to, int64_t from, int64_t at) {
    backend.randomIntegers(to, from, at, low, high);
  });
  return out;
}

Tensor randomPermutation(Device& device, int64_t n, int64_t seed, int64_t offset) {
  const char* op = "randomPermutation";
  checkSequence(op, seed, offset);
  if (n < 0 || n > INT32_MAX) fail(ErrorCode::Argument, op, "n must be in [0, ", INT32_MAX, "], got ", n);
  const Tensor out = Tensor::empty(device, {n}, DType::Int32);
  launchDraw(op, out, seed, offset, [](Backend& backend, const Tensor& to, int64_t from, int64_t at) {
    backend.randomPermutation(to, from, at);
  });
  return out;
}

std::vector<double> hostUniform(int64_t seed, int64_t offset, int64_t n) {
  checkHost("hostUniform", seed, offset, n);
  std::vector<double> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const philox::Block block = philox::draw(static_cast<uint64_t>(seed), static_cast<uint64_t>(offset + i / 2));
    out[i] = philox::uniform53(block.word[2 * (i % 2)], block.word[2 * (i % 2) + 1]);
  }
  return out;
}

std::vector<double> hostNormal(int64_t seed, int64_t offset, int64_t n) {
  checkHost("hostNormal", seed, offset, n);
  std::vector<double> out(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; i += 2) {
    double pair[2];
    philox::normals64(philox::draw(static_cast<uint64_t>(seed), static_cast<uint64_t>(offset + i / 2)), pair);
    out[i] = pair[0];
    if (i + 1 < n) out[i + 1] = pair[1];
  }
  return out;
}

}  // namespace flowmap::ops
