// One kernel moves elements between any two orders: permute, slice, concat, pad, broadcast and flip are views of it.
#include <array>
#include <cstring>
#include <tuple>

#include "core/copy_walk.h"
#include "core/dispatch.h"
#include "cpu/backend.h"
#include "cpu/parallel.h"
#include "cpu/streaming.h"

namespace flowmap::cpu {
namespace {

constexpr int64_t kTile = 32;  // a transposed tile of 4-byte elements is 4 KiB on each side

constexpr int64_t kShort = 16;    // elements that are moved before memcpy has begun
constexpr int64_t kRowCost = 16;  // of finding where a row begins, in elements

template <class T>
void copyRow(T* y, const T* x, int64_t n, int64_t outStride, int64_t inStride, bool streamed) {
  if (outStride == 1 && inStride == 1 && n > kShort) {
    if (streamed)
      streamRun(y, x, n * static_cast<int64_t>(sizeof(T)));
    else
      std::memcpy(y, x, static_cast<size_t>(n) * sizeof(T));
  } else if (outStride == 1 && inStride == 0) {
    std::fill_n(y, n, *x);
  } else {
    for (int64_t i = 0; i < n; ++i) y[i * outStride] = x[i * inStride];
  }
}

// n elements side by side as two pieces of kPiece, which overlap where n is less than both.
template <int64_t kPiece, class T>
void copyPieces(T* y, const T* x, int64_t n) {
  std::array<T, kPiece> first, last;
  std::memcpy(first.data(), x, sizeof first);
  std::memcpy(last.data(), x + n - kPiece, sizeof last);
  std::memcpy(y, first.data(), sizeof first);
  std::memcpy(y + n - kPiece, last.data(), sizeof last);
}

template <class T>
void copyShortRow(T* y, const T* x, int64_t n) {
  if (n >= 8) return copyPieces<8>(y, x, n);
  if (n >= 4) return copyPieces<4>(y, x, n);
  if (n >= 2) return copyPieces<2>(y, x, n);
  *y = *x;
}

// Where a row begins on both sides, from row to row without divisions.
class RowOffsets {
 public:
  RowOffsets(const CopyWalk& walk, int64_t row) : walk_(walk), axes_(walk.rank - 1) {
    std::tie(out, in) = walk.offsets(row, axes_);
    for (int axis = axes_ - 1; axis >= 0; --axis) {
      at_[axis] = row % walk.sizes[axis];
      row /= walk.sizes[axis];
    }
  }
  int64_t out, in;

  void next() {
    for (int axis = axes_ - 1; axis >= 0; --axis) {
      out += walk_.out[axis];
      in += walk_.in[axis];
      if (++at_[axis] < walk_.sizes[axis]) return;
      at_[axis] = 0;
      out -= walk_.sizes[axis] * walk_.out[axis];
      in -= walk_.sizes[axis] * walk_.in[axis];
    }
  }

 private:
  const CopyWalk& walk_;
  const int axes_;
  std::array<int64_t, kMaxRank> at_{};
};

template <class T>
void copyRows(const CopyWalk& walk, T* y, const T* x) {
  const int outer = walk.rank - 1;
  const int64_t rows = walk.count(outer), n = walk.sizes[outer];
  const bool streamed = rows * n * static_cast<int64_t>(sizeof(T)) >= kStreamedBytes;
  // A single long row is cut; many rows are dealt out.
  if (outer == 0) {
    return parallelFor(n, n >= kParallelElements, 64, [&](int64_t begin, int64_t end) {
      copyRow(y + begin * walk.out[0], x + begin * walk.in[0], end - begin, walk.out[0], walk.in[0], streamed);
      if (streamed) finishStreams();
    });
  }
  parallelFor(rows, rows * (n + kRowCost) >= kParallelElements, 1, [&](int64_t begin, int64_t end) {
    RowOffsets at(walk, begin);
    if (n <= kShort && walk.out[outer] == 1 && walk.in[outer] == 1) {
      for (int64_t row = begin; row < end; ++row, at.next()) copyShortRow(y + at.out, x + at.in, n);
      return;
    }
    for (int64_t row = begin; row < end; ++row, at.next()) {
      copyRow(y + at.out, x + at.in, n, walk.out[outer], walk.in[outer], streamed);
    }
    if (streamed) finishStreams();
  });
}

// The innermost axis of the output is strided in the input, whose own innermost axis is `other`: tile by tile.
template <class T>
void transpose(const CopyWalk& walk, int other, T* y, const T* x) {
  CopyWalk rest = walk;  // the axes around the two
  const int inner = walk.rank - 1;
  rest.rank = 0;
  for (int axis = 0; axis < inner; ++axis) {
    if (axis != other) rest.push(walk.sizes[axis], walk.out[axis], walk.in[axis]);
  }
  const int64_t m = walk.sizes[other], n = walk.sizes[inner];
  const int64_t mTiles = (m + kTile - 1) / kTile, nTiles = (n + kTile - 1) / kTile, batch = rest.count(rest.rank);
  const int64_t outStride = walk.out[other], inStride = walk.in[inner];
  parallelFor(batch * mTiles, batch * m * n >= kParallelElements, 1, [&](int64_t begin, int64_t end) {
    T tile[kTile * kTile];
    for (int64_t unit = begin; unit < end; ++unit) {
      const auto [o, i] = rest.offsets(unit / mTiles, rest.rank);
      const int64_t m0 = unit % mTiles * kTile, height = std::min(kTile, m - m0);
      for (int64_t nTile = 0; nTile < nTiles; ++nTile) {
        const int64_t n0 = nTile * kTile, width = std::min(kTile, n - n0);
        const T* from = x + i + m0 + n0 * inStride;
        T* to = y + o + m0 * outStride + n0;
        // Through a dense tile: rows of the input are read and rows of the output written whole.
        for (int64_t c = 0; c < width; ++c) {
          for (int64_t r = 0; r < height; ++r) tile[r * kTile + c] = from[c * inStride + r];
        }
        for (int64_t r = 0; r < height; ++r) {
          for (int64_t c = 0; c < width; ++c) to[r * outStride + c] = tile[r * kTile + c];
        }
      }
    }
  });
}

}  // namespace

void CpuBackend::copyStrided(const Tensor& out, const StridedView& outView, const Tensor& x, const StridedView& xView,
                             const Shape& sizes) {
  if (sizes.numel() == 0) return;
  const CopyWalk walk(sizes, outView, xView);
  const int other = walk.transposed();
  dispatchBits(out.dtype(), [&]<class T>() {
    T* y = out.data<T>() + outView.offset;
    const T* from = x.data<const T>() + xView.offset;
    if (other >= 0)
      transpose(walk, other, y, from);
    else
      copyRows(walk, y, from);
  });
}

}  // namespace flowmap::cpu
