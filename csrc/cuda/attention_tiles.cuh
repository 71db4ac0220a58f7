// Tiles of 16-bit matrices in shared memory: copied from global memory by cp.async with zeros beyond the edges,
// swizzled so that neither the copies nor ldmatrix meet bank conflicts, and read piece by piece (16×16) as operands of
// mma.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <numeric>

#include "core/dtype.h"
#include "cuda/ptx/cp_async.cuh"
#include "cuda/ptx/ldmatrix.cuh"
#include "cuda/ptx/mma.cuh"

namespace flowmap::cuda {

// What the tensor cores call an element type.
template <class T>
struct TensorCoreOf;
template <>
struct TensorCoreOf<BFloat16> {
  using type = __nv_bfloat16;
};
template <>
struct TensorCoreOf<Float16> {
  using type = __half;
};
template <class T>
using TensorCore = typename TensorCoreOf<T>::type;

// Rows of kColumns elements, a multiple of 16, without gaps; a tile begins at a multiple of 128 bytes. Chunks of 16
// bytes change places within their row, so that eight rows' chunks of one column lie in different banks.
template <int kColumns>
struct TileLayout {
  static_assert(kColumns % 16 == 0);
  static constexpr int kChunks = kColumns / 8, kRowBytes = kColumns * 2;
  static constexpr int kSwizzle = std::gcd(kChunks, 8);  // so many neighbouring chunks change places

  static __device__ __forceinline__ int offset(int row, int chunk) {
    return row * kRowBytes + (chunk ^ (row / (8 / kSwizzle) % kSwizzle)) * 16;
  }
};

constexpr int kTileAlignment = 128;
template <int kRows, int kColumns>
constexpr int kTileBytes = kRows * kColumns * 2;

// Starts copying the first `rows` rows, of `columns` elements (a multiple of 8), `stride` elements apart; the rest of
// the tile becomes zero. Nothing is read where rows <= 0. All kThreads threads of the block call it. A rolled loop
// takes fewer registers.
template <int kRows, int kColumns, int kThreads, bool kRolled = false, class T>
__device__ __forceinline__ void loadTile(unsigned char* tile, const T* from, int64_t stride, int rows, int columns) {
  using Layout = TileLayout<kColumns>;
  constexpr int kAll = kRows * Layout::kChunks, kSteps = (kAll + kThreads - 1) / kThreads;
#pragma unroll(kRolled ? 1 : kSteps)
  for (int step = 0; step < kSteps; ++step) {
    const int i = step * kThreads + static_cast<int>(threadIdx.x);
    if (kAll % kThreads != 0 && i >= kAll) break;
    const int row = i / Layout::kChunks, chunk = i % Layout::kChunks;
    const bool inside = row < rows && chunk * 8 < columns;
    ptx::cpAsyncZeroFill<16>(tile + Layout::offset(row, chunk), inside ? from + row * stride + chunk * 8 : from,
                             inside ? 16 : 0);
  }
}

// The order of a piece's four 8×8 tiles in the registers of ldmatrix. RowsFirst is that of A, and transposed that of
// two neighbouring B whose k runs down the rows; ColumnsFirst is that of two neighbouring B whose k runs along the rows
// and, transposed, of A.
enum class PieceOrder { RowsFirst, ColumnsFirst };

// This lane's address for the piece at row 0 and column 0 of the tile at a shared address.
template <int kColumns, PieceOrder kOrder>
__device__ __forceinline__ uint32_t pieceCursor(uint32_t tile) {
  const int lane = threadIdx.x % 32;
  if constexpr (kOrder == PieceOrder::RowsFirst) {
    return tile + TileLayout<kColumns>::offset(lane % 16, lane / 16);
  } else {
    return tile + TileLayout<kColumns>::offset(lane % 8 + lane / 16 * 8, lane / 8 % 2);
  }
}

// Loads the piece at a row that is a multiple of 8 and a column that is one of 16, of the tile that lies `at` bytes (a
// constant, a multiple of kTileAlignment) beyond the cursor's: tiles that share a cursor share the arithmetic.
template <int kColumns, bool kTransposed = false>
__device__ __forceinline__ void loadPiece(uint32_t (&piece)[4], uint32_t cursor, int row, int column, int at = 0) {
  using Layout = TileLayout<kColumns>;
  const int chunk = column / 8, within = chunk % Layout::kSwizzle;
  ptx::ldmatrix<kTransposed>(piece, (cursor ^ static_cast<uint32_t>(within * 16)) +
                                        static_cast<uint32_t>(at + row * Layout::kRowBytes + (chunk - within) * 16));
}

// d[0] += A·B and d[1] += A·B', for the two neighbouring B of a piece.
template <class T>
__device__ __forceinline__ void multiplyPiece(float (&d0)[4], float (&d1)[4], const uint32_t (&a)[4],
                                              const uint32_t (&b)[4]) {
  const uint32_t first[2] = {b[0], b[1]}, second[2] = {b[2], b[3]};
  ptx::Mma<T>::m16n8k16(d0, a, first);
  ptx::Mma<T>::m16n8k16(d1, a, second);
}

// Two floats, rounded, in a register; the first is the lower half.
template <class T>
__device__ __forceinline__ uint32_t packPair(float first, float second) {
  uint32_t bits;
  if constexpr (std::is_same_v<T, __half>) {
    const __half2 pair = __floats2half2_rn(first, second);
    memcpy(&bits, &pair, sizeof(bits));
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    memcpy(&bits, &pair, sizeof(bits));
  }
  return bits;
}

// Two neighbouring accumulators [16, 8] as the A of a product over their 16 columns.
template <class T>
__device__ __forceinline__ void packOperand(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = packPair<T>(left[0], left[1]);
  a[1] = packPair<T>(left[2], left[3]);
  a[2] = packPair<T>(right[0], right[1]);
  a[3] = packPair<T>(right[2], right[3]);
}

// A warp writes 16 rows of accumulators, kColumns / 8 of them, as elements into its rows of a tile from `row` on, and
// then to global memory, 16 bytes a lane: `rows` of them and `columns` elements of each. No other warp may use those
// rows.
template <int kColumns, class T>
__device__ __forceinline__ void storeStrip(unsigned char* tile, int row, const float (&strip)[kColumns / 8][4], T* to,
                                           int64_t stride, int rows, int columns) {
  using Layout = TileLayout<kColumns>;
  const int lane = threadIdx.x % 32;
  __syncwarp();
#pragma unroll
  for (int n = 0; n < kColumns / 8; ++n) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      *reinterpret_cast<uint32_t*>(tile + Layout::offset(row + lane / 4 + 8 * half, n) + lane % 4 * 4) =
          packPair<T>(strip[n][2 * half], strip[n][2 * half + 1]);
    }
  }
  __syncwarp();
#pragma unroll
  for (int step = 0; step < 16 * Layout::kChunks / 32; ++step) {
    const int i = step * 32 + lane, r = i / Layout::kChunks, chunk = i % Layout::kChunks;
    if (r >= rows || chunk * 8 >= columns) continue;
    *reinterpret_cast<uint4*>(to + r * stride + chunk * 8) =
        *reinterpret_cast<const uint4*>(tile + Layout::offset(row + r, chunk));
  }
}

}  // namespace flowmap::cuda
