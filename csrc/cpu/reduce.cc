// Reductions over any set of axes in one pass. Work is cut by the shape alone and partial results are joined in a fixed
// order, so the bits do not depend on the number of threads.
#include <algorithm>
#include <limits>
#include <vector>

#include "core/dispatch.h"
#include "core/reduce_layout.h"
#include "cpu/backend.h"
#include "cpu/convert.h"
#include "cpu/parallel.h"
#include "cpu/reduce_runs.h"

namespace flowmap::cpu {
namespace {

constexpr int64_t kRowBlock = 8192;       // elements of a row summed into one partial result
constexpr int64_t kColumnTile = 512;      // columns accumulated together: their totals stay in the first-level cache
constexpr int64_t kTileElements = 65536;  // elements of a column tile summed into one partial result
constexpr int64_t kEnoughUnits = 16;      // independent results that occupy any team we expect

// T is what is stored, Value what is read, Total what is kept between.
template <class T>
struct SumOf {
  using Value = Compute<T>;
  using Total = std::conditional_t<std::is_integral_v<T>, int64_t, double>;
  Total identity() const { return 0; }
  Total row(const Value* x, int64_t n) const { return sumRun(x, n); }
  void add(Total* totals, const Value* x, int64_t n) const { addRun(totals, x, n); }
  Total join(Total a, Total b) const { return a + b; }
};

template <class T>
struct ExtremeOf {
  using Value = Compute<T>;
  using Total = Value;
  bool largest;
  Total identity() const {
    using Limits = std::numeric_limits<Value>;
    if constexpr (std::is_floating_point_v<Value>)
      return largest ? -Limits::infinity() : Limits::infinity();
    else
      return largest ? Limits::lowest() : Limits::max();
  }
  Total row(const Value* x, int64_t n) const { return extremeRun(largest, x, n); }
  void add(Total* totals, const Value* x, int64_t n) const { keepExtremeRun(largest, totals, x, n); }
  Total join(Total a, Total b) const { return a != a || (largest ? a > b : a < b) ? a : b; }
};

// Reads up to `kSize` elements as the values a reduction computes with.
template <class T, class Value, int64_t kSize>
struct Reader {
  const Value* read(const T* x, int64_t n) {
    if constexpr (std::is_same_v<T, Value>) {
      return x;
    } else {
      convertRun(DTypeOf<Value>::value, buffer, DTypeOf<T>::value, x, n);
      return buffer;
    }
  }
  Value buffer[std::is_same_v<T, Value> ? 1 : kSize];
};

// The innermost axes are reduced: every result is the join of whole rows, cut into blocks.
template <class T, class Reduction, class Store>
void reduceRows(const ReduceLayout& layout, const T* x, const Reduction& reduction, Store store) {
  using Total = typename Reduction::Total;
  const int64_t results = layout.kept.count(), rows = layout.reduced.count();
  const int64_t blocksPerRow = (layout.inner + kRowBlock - 1) / kRowBlock, blocks = rows * blocksPerRow;
  const bool parallel = results * rows * layout.inner >= kParallelElements;
  const auto partial = [&](int64_t result, int64_t block) {
    constexpr int64_t kPiece = 512;
    Reader<T, typename Reduction::Value, kPiece> reader;
    const int64_t begin = block % blocksPerRow * kRowBlock, end = std::min(layout.inner, begin + kRowBlock);
    const T* row = x + layout.kept.offset(result) + layout.reduced.offset(block / blocksPerRow);
    const int64_t step = std::is_same_v<T, typename Reduction::Value> ? kRowBlock : kPiece;
    Total total = reduction.identity();
    for (int64_t at = begin; at < end; at += step) {
      const int64_t n = std::min(step, end - at);
      total = reduction.join(total, reduction.row(reader.read(row + at, n), n));
    }
    return total;
  };
  if (results >= kEnoughUnits || blocks == 1 || !parallel) {
    return parallelFor(results, parallel, 1, [&](int64_t begin, int64_t end) {
      for (int64_t result = begin; result < end; ++result) {
        Total total = reduction.identity();
        for (int64_t block = 0; block < blocks; ++block) total = reduction.join(total, partial(result, block));
        store(result, total);
      }
    });
  }
  std::vector<Total> partials(results * blocks);
  parallelFor(results * blocks, parallel, 1, [&](int64_t begin, int64_t end) {
    for (int64_t unit = begin; unit < end; ++unit) partials[unit] = partial(unit / blocks, unit % blocks);
  });
  for (int64_t result = 0; result < results; ++result) {
    Total total = reduction.identity();
    for (int64_t block = 0; block < blocks; ++block) total = reduction.join(total, partials[result * blocks + block]);
    store(result, total);
  }
}

// The innermost axes are kept: tiles of columns are accumulated down the reduced axes, cut into chunks.
template <class T, class Reduction, class Store>
void reduceColumns(const ReduceLayout& layout, const T* x, const Reduction& reduction, Store store) {
  using Total = typename Reduction::Total;
  const int64_t outer = layout.kept.count(), rows = layout.reduced.count();
  const int64_t tiles = (layout.inner + kColumnTile - 1) / kColumnTile;
  const int64_t rowsPerChunk = std::max<int64_t>(16, kTileElements / std::min(layout.inner, kColumnTile));
  const int64_t chunks = std::max<int64_t>(1, (rows + rowsPerChunk - 1) / rowsPerChunk);
  const bool parallel = outer * rows * layout.inner >= kParallelElements;
  const auto accumulate = [&](Total* totals, int64_t unit, int64_t chunk) {
    Reader<T, typename Reduction::Value, kColumnTile> reader;
    const int64_t column = unit % tiles * kColumnTile, width = std::min(kColumnTile, layout.inner - column);
    const T* base = x + layout.kept.offset(unit / tiles) + column;
    std::fill_n(totals, width, reduction.identity());
    const int64_t end = std::min(rows, (chunk + 1) * rowsPerChunk);
    for (int64_t row = chunk * rowsPerChunk; row < end; ++row) {
      reduction.add(totals, reader.read(base + layout.reduced.offset(row), width), width);
    }
    return width;
  };
  const auto storeTile = [&](const Total* totals, int64_t unit, int64_t width) {
    const int64_t first = unit / tiles * layout.inner + unit % tiles * kColumnTile;
    for (int64_t i = 0; i < width; ++i) store(first + i, totals[i]);
  };
  const int64_t units = outer * tiles;
  if (units >= kEnoughUnits || chunks == 1 || !parallel) {
    return parallelFor(units, parallel, 1, [&](int64_t begin, int64_t end) {
      alignas(64) Total totals[kColumnTile], chunkTotals[kColumnTile];  // so that no vector straddles two lines
      for (int64_t unit = begin; unit < end; ++unit) {
        const int64_t width = accumulate(totals, unit, 0);
        for (int64_t chunk = 1; chunk < chunks; ++chunk) {
          accumulate(chunkTotals, unit, chunk);
          for (int64_t i = 0; i < width; ++i) totals[i] = reduction.join(totals[i], chunkTotals[i]);
        }
        storeTile(totals, unit, width);
      }
    });
  }
  std::vector<Total> partials(units * chunks * kColumnTile);
  parallelFor(units * chunks, parallel, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) accumulate(&partials[i * kColumnTile], i / chunks, i % chunks);
  });
  for (int64_t unit = 0; unit < units; ++unit) {
    Total* totals = &partials[unit * chunks * kColumnTile];
    const int64_t width = std::min(kColumnTile, layout.inner - unit % tiles * kColumnTile);
    for (int64_t chunk = 1; chunk < chunks; ++chunk) {
      for (int64_t i = 0; i < width; ++i) totals[i] = reduction.join(totals[i], totals[chunk * kColumnTile + i]);
    }
    storeTile(totals, unit, width);
  }
}

template <class T, class Reduction, class Store>
void reduceAny(const ReduceLayout& layout, const T* x, const Reduction& reduction, Store store) {
  if (layout.innerReduced)
    reduceRows(layout, x, reduction, store);
  else
    reduceColumns(layout, x, reduction, store);
}

// Whether `candidate` comes before `best`: it is more extreme, or the first NaN.
template <class C>
bool precedes(bool largest, C candidate, C best) {
  return best == best && (candidate != candidate || (largest ? candidate > best : candidate < best));
}

// The first place of the extreme of a row: blocks are searched only where their extreme improves on what came before.
template <class T>
int64_t argExtremeRow(bool largest, const T* x, int64_t n) {
  using C = Compute<T>;
  constexpr int64_t kPiece = 512;
  Reader<T, C, kPiece> reader;
  C best{};
  int64_t place = 0;
  for (int64_t at = 0; at < n; at += kPiece) {
    const int64_t width = std::min(kPiece, n - at);
    const C* values = reader.read(x + at, width);
    const C candidate = extremeRun(largest, values, width);
    if (at > 0 && !precedes(largest, candidate, best)) continue;
    best = candidate;
    const auto found = [best](C value) { return value == best || (value != value && best != best); };
    place = at + (std::find_if(values, values + width, found) - values);
  }
  return place;
}

// [outer, n, inner] -> the place along n, for every [outer, inner]; the first among equals, and the first NaN above
// all.
template <class T>
void argExtreme(bool largest, int32_t* y, const T* x, int64_t outer, int64_t n, int64_t inner) {
  using C = Compute<T>;
  const bool parallel = outer * inner * n >= kParallelElements;
  if (inner == 1) {
    return parallelFor(outer, parallel, 16, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        y[row] = static_cast<int32_t>(argExtremeRow(largest, x + row * n, n));
      }
    });
  }
  constexpr int64_t kColumns = 128;
  const int64_t tiles = (inner + kColumns - 1) / kColumns;
  parallelFor(outer * tiles, parallel, 1, [&](int64_t begin, int64_t end) {
    C best[kColumns];
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t column = unit % tiles * kColumns, width = std::min(kColumns, inner - column);
      const T* from = x + unit / tiles * n * inner + column;
      int32_t* place = y + unit / tiles * inner + column;
      for (int64_t j = 0; j < width; ++j) best[j] = static_cast<C>(from[j]);
      std::fill_n(place, width, 0);
      for (int64_t i = 1; i < n; ++i) {
        for (int64_t j = 0; j < width; ++j) {
          const C candidate = static_cast<C>(from[i * inner + j]);
          if (!precedes(largest, candidate, best[j])) continue;
          best[j] = candidate;
          place[j] = static_cast<int32_t>(i);
        }
      }
    }
  });
}

}  // namespace

void CpuBackend::reduce(ReduceOp op, const Tensor& out, const Tensor& x, const std::array<bool, kMaxRank>& reduced) {
  if (out.numel() == 0) return;
  const bool sums = op == ReduceOp::Sum || op == ReduceOp::Mean;
  if (x.numel() == 0) return fill(out, op == ReduceOp::Mean ? std::numeric_limits<double>::quiet_NaN() : 0.0);
  const ReduceLayout layout(x.shape(), reduced);
  if (!sums) {
    return dispatchAll(x.dtype(), [&]<class T>() {
      const ExtremeOf<T> reduction{op == ReduceOp::Max};
      reduceAny(layout, x.data<const T>(), reduction,
                [y = out.data<T>()](int64_t i, Compute<T> total) { y[i] = static_cast<T>(total); });
    });
  }
  if (x.dtype() == DType::Bool) {  // counts
    return reduceAny(layout, x.data<const uint8_t>(), SumOf<int32_t>{},
                     [y = out.data<int32_t>()](int64_t i, int64_t total) { y[i] = static_cast<int32_t>(total); });
  }
  if (x.dtype() == DType::Int32) {
    return reduceAny(layout, x.data<const int32_t>(), SumOf<int32_t>{},
                     [y = out.data<int32_t>()](int64_t i, int64_t total) { y[i] = static_cast<int32_t>(total); });
  }
  const double count = op == ReduceOp::Mean ? static_cast<double>(x.numel() / out.numel()) : 1.0;
  dispatchFloating(x.dtype(), [&]<class T>() {
    reduceAny(layout, x.data<const T>(), SumOf<T>{}, [y = out.data<T>(), count](int64_t i, double total) {
      y[i] = static_cast<T>(static_cast<Compute<T>>(total / count));
    });
  });
}

void CpuBackend::argReduce(ArgReduceOp op, const Tensor& out, const Tensor& x, int axis) {
  if (out.numel() == 0) return;
  const Shape& shape = x.shape();
  dispatchAll(x.dtype(), [&]<class T>() {
    argExtreme(op == ArgReduceOp::ArgMax, out.data<int32_t>(), x.data<const T>(), shape.product(0, axis), shape[axis],
               shape.product(axis + 1, shape.rank()));
  });
}

}  // namespace flowmap::cpu
