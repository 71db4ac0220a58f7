// How a product of tiles is cut into blocks whose sums registers hold, whatever the instructions are.
#pragma once

#include <algorithm>
#include <cstdint>

namespace flowmap::cpu {

// All rows of a panel of kVectors vectors. `Blocks::run<rows, vectors>(t, row, column)` computes a block, of at most
// `Blocks::rowsFor(vectors)` rows.
template <class Blocks, int kVectors, class Product>
void forBlocksOfPanel(const Product& t, int64_t column) {
  constexpr int kRows = Blocks::rowsFor(kVectors);
  int64_t row = 0;
  for (; row + kRows <= t.m; row += kRows) Blocks::template run<kRows, kVectors>(t, row, column);
  if (kRows > 8 && row + 8 <= t.m) Blocks::template run<8, kVectors>(t, row, column), row += 8;
  if (row + 4 <= t.m) Blocks::template run<4, kVectors>(t, row, column), row += 4;
  if (row + 2 <= t.m) Blocks::template run<2, kVectors>(t, row, column), row += 2;
  if (row < t.m) Blocks::template run<1, kVectors>(t, row, column);
}

// All columns, in panels of at most `Blocks::kMaxVectors` vectors of `lanes` columns.
template <class Blocks, class Product>
void forBlocks(const Product& t, int64_t lanes) {
  constexpr int kMost = Blocks::kMaxVectors;
  int64_t left = t.n / lanes, column = 0;
  while (left > 0) {
    // Never a lone vector beside a full panel: it would be bound by loads.
    int take = static_cast<int>(std::min<int64_t>(left, kMost));
    if (left == kMost + 1 && kMost > 2) take = kMost - 1;
    if (take == 1) {
      forBlocksOfPanel<Blocks, 1>(t, column);
    } else if (take == 2) {
      forBlocksOfPanel<Blocks, 2>(t, column);
    } else if constexpr (kMost > 2) {
      if (take == 3)
        forBlocksOfPanel<Blocks, 3>(t, column);
      else
        forBlocksOfPanel<Blocks, 4>(t, column);
    }
    column += take * lanes;
    left -= take;
  }
}

}  // namespace flowmap::cpu
