// QKNorm and the centring of keys inside attention: a thread changes the chunks of a tile that it copied itself, as
// soon as they have arrived, so that normalised operands exist in shared memory alone.
#pragma once

#include <cstdint>

#include "cuda/attention.h"
#include "cuda/attention_tiles.cuh"

namespace flowmap::cuda {

// x̂ = r x ∘ weight − mean and its tangent r (tx − c x) ∘ weight − tangentMean, where a row's r and c are of QKNorm.
template <class T>
struct OperandNorm {
  const float2* rows;               // r and c of each row; null: 1 and 0
  const T* weight;                  // null: ones
  const float *mean, *tangentMean;  // of each unit; null: zeros

  __device__ __forceinline__ bool absent() const { return rows == nullptr && mean == nullptr; }
};

__device__ __forceinline__ float2 unpackPair(const __nv_bfloat162& pair) { return __bfloat1622float2(pair); }
__device__ __forceinline__ float2 unpackPair(const __half2& pair) { return __half22float2(pair); }

template <class T>
__device__ __forceinline__ float2 unpackBits(uint32_t bits) {
  using Pair = std::conditional_t<std::is_same_v<T, __half>, __half2, __nv_bfloat162>;
  Pair pair;
  memcpy(&pair, &bits, sizeof(pair));
  return unpackPair(pair);
}

// The tile as loadTile copied it (the same kRows, kColumns, kThreads, rows and columns), of rows that begin at number
// `firstRow` and are `rowStep` apart; meanAt is the unit's in the means. `tangent` may be null.
template <int kRows, int kColumns, int kThreads, class T>
__device__ __forceinline__ void normalizeTile(unsigned char* tile, unsigned char* tangent, const OperandNorm<T>& norm,
                                              int64_t firstRow, int64_t rowStep, int64_t meanAt, int rows,
                                              int columns) {
  using Layout = TileLayout<kColumns>;
  constexpr int kAll = kRows * Layout::kChunks;
#pragma unroll 1
  for (int i = threadIdx.x; i < kAll; i += kThreads) {
    const int row = i / Layout::kChunks, chunk = i % Layout::kChunks;
    if (row >= rows || chunk * 8 >= columns) continue;
    const float2 known = norm.rows == nullptr ? float2{1, 0} : norm.rows[firstRow + row * rowStep];
    const auto change = [&](unsigned char* at, const float* mean, uint4 x, uint4 shift, float c) {
      uint4 weight{};
      if (norm.weight != nullptr) weight = *reinterpret_cast<const uint4*>(norm.weight + chunk * 8);
      uint32_t changed[4];
      const uint32_t xs[4] = {x.x, x.y, x.z, x.w}, shifts[4] = {shift.x, shift.y, shift.z, shift.w};
      const uint32_t weights[4] = {weight.x, weight.y, weight.z, weight.w};
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        float2 y = unpackBits<T>(xs[pair]), by = {1, 1}, off = {0, 0};
        const float2 along = unpackBits<T>(shifts[pair]);
        if (norm.weight != nullptr) by = unpackBits<T>(weights[pair]);
        if (mean != nullptr) off = *reinterpret_cast<const float2*>(mean + meanAt + chunk * 8 + 2 * pair);
        y.x = known.x * (y.x - c * along.x) * by.x - off.x;
        y.y = known.x * (y.y - c * along.y) * by.y - off.y;
        changed[pair] = packPair<T>(y.x, y.y);
      }
      *reinterpret_cast<uint4*>(at) = {changed[0], changed[1], changed[2], changed[3]};
    };
    unsigned char* const at = tile + Layout::offset(row, chunk);
    const uint4 x = *reinterpret_cast<const uint4*>(at);
    if (tangent != nullptr) {
      unsigned char* const tangentAt = tangent + Layout::offset(row, chunk);
      change(tangentAt, norm.tangentMean, *reinterpret_cast<const uint4*>(tangentAt), x, known.y);
    }
    change(at, norm.mean, x, x, 0);
  }
}

}  // namespace flowmap::cuda
