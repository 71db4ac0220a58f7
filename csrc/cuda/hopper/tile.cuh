// The fourth rung for Hopper (sm_90a): tiles of 16-bit matrices in shared memory, brought and taken by TMA, and
// products of them by a warpgroup. Widths need not be powers of two: a tile is cut into panels as wide as a swizzle,
// side by side. Products only issue: fences, commits and waits are the caller's, as one group holds several.
#pragma once

#include <numeric>
#include <type_traits>

#include "cuda/hopper/wgmma_products.cuh"
#include "cuda/ptx/stmatrix.cuh"

namespace flowmap::cuda::hopper {

template <int Rows, int Columns>
struct Tile {
  static_assert(Rows % 8 == 0 && Rows <= 256 && Columns % 16 == 0);
  static constexpr int kRows = Rows, kColumns = Columns;
  static constexpr int kPanelColumns = std::gcd(Columns, 64), kPanels = Columns / kPanelColumns;
  static constexpr int kSwizzle = 2 * kPanelColumns;  // bytes of a panel's row; the tensor map's, too
  static constexpr int kPanelBytes = Rows * kSwizzle, kBytes = kPanels * kPanelBytes;
  static constexpr int kAlignment = 8 * kSwizzle;
  static_assert(kPanels == 1 || kPanelBytes % kAlignment == 0);

  /** Where 8 elements from (row, column) on lie, column a multiple of 8. */
  static __device__ __forceinline__ int chunk(int row, int column) {
    const int at = column / kPanelColumns * kPanelBytes + row * kSwizzle + column % kPanelColumns * 2;
    return at ^ (at >> 7 & (kSwizzle / 16 - 1)) << 4;
  }

  /** The operand whose rows (of A, or columns of B) are the tile's rows from `row` on, a multiple of 8, and whose k are
   * its columns from `k` on. */
  static __device__ __forceinline__ uint64_t rowOperand(const void* tile, int row, int k) {
    const int at = k / kPanelColumns * kPanelBytes + row * kSwizzle + k % kPanelColumns * 2;
    return matrixDescriptor<kSwizzle>(sharedAddress(tile) + at, 0, 8 * kSwizzle);
  }

  /** The operand whose rows are the tile's columns from `column` on, a multiple of a panel's, and whose k are its rows.
   */
  static __device__ __forceinline__ uint64_t columnOperand(const void* tile, int column, int k) {
    const int at = column / kPanelColumns * kPanelBytes + k * kSwizzle;
    return matrixDescriptor<kSwizzle>(sharedAddress(tile) + at, kPanelBytes, 8 * kSwizzle);
  }
};

// ---- copies, by one thread; the map's box is a panel: kPanelColumns wide, and kRows in all other dimensions ----

/** Tile::kBytes come to the barrier. */
template <class Tile, int Rank>
__device__ __forceinline__ void tileLoad(unsigned char* tile, const void* map, Box<Rank> box, Mbarrier* barrier) {
#pragma unroll
  for (int panel = 0; panel < Tile::kPanels; ++panel) {
    tmaLoad(tile + panel * Tile::kPanelBytes, map, box, barrier);
    box.at[0] += Tile::kPanelColumns;
  }
}

template <class Tile, int Rank>
__device__ __forceinline__ void tileStore(const void* map, Box<Rank> box, const unsigned char* tile) {
#pragma unroll
  for (int panel = 0; panel < Tile::kPanels; ++panel) {
    tmaStore(map, box, tile + panel * Tile::kPanelBytes);
    box.at[0] += Tile::kPanelColumns;
  }
}

/** By a warp: rows from `first` on become zero. Engines see it after a fenceProxyAsync. */
template <class Tile>
__device__ __forceinline__ void clearRows(unsigned char* tile, int first) {
  constexpr int kChunks = Tile::kColumns / 8;
#pragma unroll 1
  for (int i = first * kChunks + static_cast<int>(threadIdx.x) % 32; i < Tile::kRows * kChunks; i += 32) {
    *reinterpret_cast<uint4*>(tile + Tile::chunk(i / kChunks, i % kChunks * 8)) = uint4{};
  }
}

// ---- accumulators ----

/** In the warpgroup's 64 rows: what element j of an accumulator of this thread is. */
__device__ __forceinline__ int accumulatorRow(int j) {
  const int t = static_cast<int>(threadIdx.x) % 128;
  return t / 32 * 16 + t % 32 / 4 + j / 2 % 2 * 8;
}
__device__ __forceinline__ int accumulatorColumn(int j) {
  return j / 4 * 8 + static_cast<int>(threadIdx.x) % 4 * 2 + j % 2;
}

/** Two floats, rounded, in a register; the first is the lower half. */
template <class T>
__device__ __forceinline__ uint32_t roundPair(float first, float second) {
  if constexpr (std::is_same_v<T, __nv_bfloat16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return reinterpret_cast<const uint32_t&>(pair);
  } else {
    static_assert(std::is_same_v<T, __half>);
    const __half2 pair = __floats2half2_rn(first, second);
    return reinterpret_cast<const uint32_t&>(pair);
  }
}

/** An accumulator, rounded, as the A of products over its columns. */
template <class T, int Count>
__device__ __forceinline__ void toOperand(uint32_t (&a)[Count / 8][4], const float (&d)[Count]) {
#pragma unroll
  for (int i = 0; i < Count / 2; ++i) a[i / 4][i % 4] = roundPair<T>(d[2 * i], d[2 * i + 1]);
}

/** Writes the warpgroup's 64 rows to a tile, from `row` on. Engines see it after a fenceProxyAsync. */
template <class Tile>
__device__ __forceinline__ void storeOperand(unsigned char* tile, int row,
                                             const uint32_t (&a)[Tile::kColumns / 16][4]) {
  const int t = static_cast<int>(threadIdx.x) % 128, lane = t % 32;
  const int mine = row + t / 32 * 16 + lane % 16, half = lane / 16 * 8;
#pragma unroll
  for (int step = 0; step < Tile::kColumns / 16; ++step) {
    ptx::stmatrix(tile + Tile::chunk(mine, 16 * step + half), a[step]);
  }
}

// ---- products, added to d where `accumulates` ----

/** d[64, rows of B] = A · Bᵀ, of A the 64 rows from `row` on: scores of queries and keys. */
template <class T, class A, class B>
__device__ __forceinline__ void multiplyTransposed(float (&d)[B::kRows / 2], const void* a, int row, const void* b,
                                                   bool accumulates) {
  static_assert(A::kColumns == B::kColumns);
#pragma unroll
  for (int k = 0; k < A::kColumns; k += 16) {
    wgmma<T, Major::k, Major::k>(d, A::rowOperand(a, row, k), B::rowOperand(b, 0, k), accumulates || k > 0);
  }
}

/** d[64, columns of B] = A · B, with A in registers: probabilities and values. */
template <class T, class B>
__device__ __forceinline__ void multiply(float (&d)[B::kColumns / 2], const uint32_t (&a)[B::kRows / 16][4],
                                         const void* b, bool accumulates) {
#pragma unroll
  for (int k = 0; k < B::kRows; k += 16) {
    wgmma<T, Major::mn>(d, a[k / 16], B::columnOperand(b, 0, k), accumulates || k > 0);
  }
}

/** The same with A in a tile, its 64 rows from `row` on. */
template <class T, class A, class B>
__device__ __forceinline__ void multiply(float (&d)[B::kColumns / 2], const void* a, int row, const void* b,
                                         bool accumulates) {
  static_assert(A::kColumns == B::kRows);
#pragma unroll
  for (int k = 0; k < B::kRows; k += 16) {
    wgmma<T, Major::k, Major::mn>(d, A::rowOperand(a, row, k), B::columnOperand(b, 0, k), accumulates || k > 0);
  }
}

/** d[64, columns of B] = Aᵀ · B, of A the 64 columns from `column` on: gradients of keys and values. */
template <class T, class A, class B>
__device__ __forceinline__ void multiplyOfTransposed(float (&d)[B::kColumns / 2], const void* a, int column,
                                                     const void* b, bool accumulates) {
  static_assert(A::kRows == B::kRows);
#pragma unroll
  for (int k = 0; k < B::kRows; k += 16) {
    wgmma<T, Major::mn, Major::mn>(d, A::columnOperand(a, column, k), B::columnOperand(b, 0, k), accumulates || k > 0);
  }
}

}  // namespace flowmap::cuda::hopper
