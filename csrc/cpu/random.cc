// Random tensors: every block of the sequence on its own, so results do not depend on the number of threads.
#include <algorithm>
#include <numeric>
#include <vector>

#include "core/dispatch.h"
#include "core/philox.h"
#include "cpu/backend.h"
#include "cpu/parallel.h"

namespace flowmap::cpu {
namespace {

// Calls body(values, first) for each block: `Width` elements from index `first`, those below n are wanted.
template <int Width, class Body>
void forBlocks(int64_t n, int64_t seed, int64_t offset, Body body) {
  parallelFor((n + Width - 1) / Width, n >= 2048, 16, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      body(philox::draw(static_cast<uint64_t>(seed), static_cast<uint64_t>(offset + block)), block * Width);
    }
  });
}

}  // namespace

void CpuBackend::randomUniform(const Tensor& out, int64_t seed, int64_t offset, double low, double high) {
  const int64_t n = out.numel();
  dispatchFloating(out.dtype(), [&]<class T>() {
    T* y = out.data<T>();
    if constexpr (std::is_same_v<T, double>) {
      forBlocks<2>(n, seed, offset, [&](const philox::Block& block, int64_t first) {
        for (int64_t i = first; i < std::min(n, first + 2); ++i) {
          const int at = static_cast<int>(2 * (i - first));
          const double value = low + (high - low) * philox::uniform53(block.word[at], block.word[at + 1]);
          y[i] = value < high || low == high ? value : std::nextafter(high, low);
        }
      });
    } else {
      forBlocks<4>(n, seed, offset, [&](const philox::Block& block, int64_t first) {
        for (int64_t i = first; i < std::min(n, first + 4); ++i) {
          const float a = static_cast<float>(low), b = static_cast<float>(high);
          const float value = a + (b - a) * philox::uniform24(block.word[i - first]);
          y[i] = static_cast<T>(value < b || a == b ? value : std::nextafter(b, a));
        }
      });
    }
  });
}

void CpuBackend::randomNormal(const Tensor& out, int64_t seed, int64_t offset) {
  const int64_t n = out.numel();
  dispatchFloating(out.dtype(), [&]<class T>() {
    T* y = out.data<T>();
    if constexpr (std::is_same_v<T, double>) {
      forBlocks<2>(n, seed, offset, [&](const philox::Block& block, int64_t first) {
        double values[2];
        philox::normals64(block, values);
        for (int64_t i = first; i < std::min(n, first + 2); ++i) y[i] = values[i - first];
      });
    } else {
      forBlocks<4>(n, seed, offset, [&](const philox::Block& block, int64_t first) {
        float values[4];
        philox::normals32(block, values);
        for (int64_t i = first; i < std::min(n, first + 4); ++i) y[i] = static_cast<T>(values[i - first]);
      });
    }
  });
}

void CpuBackend::randomIntegers(const Tensor& out, int64_t seed, int64_t offset, int64_t low, int64_t high) {
  const int64_t n = out.numel();
  int32_t* y = out.data<int32_t>();
  const uint64_t range = static_cast<uint64_t>(high - low);
  forBlocks<4>(n, seed, offset, [&](const philox::Block& block, int64_t first) {
    for (int64_t i = first; i < std::min(n, first + 4); ++i) {
      y[i] = static_cast<int32_t>(low + static_cast<int64_t>((block.word[i - first] * range) >> 32));
    }
  });
}

void CpuBackend::randomPermutation(const Tensor& out, int64_t seed, int64_t offset) {
  const int64_t n = out.numel();
  std::vector<uint64_t> keys(static_cast<size_t>(n));
  forBlocks<2>(n, seed, offset, [&](const philox::Block& block, int64_t first) {
    for (int64_t i = first; i < std::min(n, first + 2); ++i) {
      const int at = static_cast<int>(2 * (i - first));
      keys[i] = (static_cast<uint64_t>(block.word[at]) << 32) | block.word[at + 1];
    }
  });
  int32_t* y = out.data<int32_t>();
  std::iota(y, y + n, 0);
  std::sort(y, y + n, [&](int32_t a, int32_t b) { return keys[a] != keys[b] ? keys[a] < keys[b] : a < b; });
}

}  // namespace flowmap::cpu
