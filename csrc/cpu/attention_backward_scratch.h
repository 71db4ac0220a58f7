// What a thread of attention's backward pass holds for a tile: sums, scores, and the operands of products. Unless the
// arithmetic rounds, rows are right operands as they are and scores become weights in place.
#pragma once

#include <cstdint>
#include <utility>

#include "cpu/attention_arithmetic.h"

namespace flowmap::cpu {

template <class Tiles>
struct BackwardScratch {
  using C = typename Tiles::C;
  using E = typename Tiles::E;

  struct Room {
    int64_t sums, scores, left, right, weights;
    Room(int64_t leftWidth, int64_t width, int64_t keyTile)
        : sums(Tiles::kBackwardQueries * width),
          scores(Tiles::kBackwardQueries * keyTile),
          left(roomFor<C, E>(Tiles::kBackwardQueries * leftWidth)),
          right(Tiles::kRounded ? roomFor<C, E>(sums) : 0),
          weights(Tiles::kRounded ? roomFor<C, E>(scores) : 0) {}
    int64_t all() const { return 2 * sums + 4 * (scores + left + right) + 6 * weights; }
  };

  struct Operand {
    E *left, *right;
  };

  struct Weights {
    C* values;
    E *rows, *columns;  // as left operands, and as those of the transpose

    // Two rows, or an odd last one, as products want them.
    void round(int64_t row, bool alone, int64_t keyTile) const {
      const C *first = values + row * keyTile, *second = alone ? nullptr : first + keyTile;
      pairRows(keyTile, first, second, columns + row * keyTile);
      if (!rows) return;
      roundRow(keyTile, 1, first, rows + row * keyTile);
      if (second) roundRow(keyTile, 1, second, rows + (row + 1) * keyTile);
    }
  };

  C *gq, *gtq;
  Operand q, tq, g, h;
  Weights s, t, d, r;

  BackwardScratch(C* at, const Room& room) {
    const auto take = [&at](int64_t count) { return std::exchange(at, at + count); };
    const auto operands = [&](int64_t count) { return reinterpret_cast<E*>(take(count)); };
    gq = take(room.sums);
    gtq = take(room.sums);
    for (Operand* x : {&q, &tq, &g, &h}) {
      x->left = operands(room.left);
      x->right = Tiles::kRounded ? operands(room.right) : x->left;
    }
    for (Weights* x : {&s, &t, &d, &r}) {
      x->values = take(room.scores);
      if constexpr (Tiles::kRounded) {
        x->rows = x == &d || x == &r ? operands(room.weights) : nullptr;  // the others meet no keys
        x->columns = operands(room.weights);
      } else {
        x->rows = x->columns = x->values;
      }
    }
  }
};

}  // namespace flowmap::cpu
