// A head of a short sequence at once: its scores fit a tile, so nothing is packed that products can read where it lies,
// nothing is rescaled, and results are written as they leave the registers. The same arithmetic as tile by tile.
#pragma once

#include <cstdint>

#include "core/attention_args.h"
#include "cpu/attention_sequences.h"

namespace flowmap::cpu {

// At most so many queries, keys and numbers in a head, and at least one of each.
constexpr int64_t kShortQueries = 96, kShortKeys = 64, kShortDim = 128;

// Rows of queries and of what belongs to them are `queryStride` apart, those of keys and values `keyStride`.
struct ShortHead {
  int64_t queries, keys, length, dim;  // length: how many of the keys count, at least one
  int64_t queryStride, keyStride;
  const int64_t* visible;  // how many keys each query sees
  float scale;
  const float *q, *k, *v;
  const float *tq, *tk, *tv;  // null: zero
};

// Whether a sequence is taken so: by itself, not by what else there is, so that alone it gives the same bits.
bool isShort(const AttentionGeometry& g, const AttentionSequence& s);

// `visible` has room for kShortQueries numbers, and is to live as long.
ShortHead shortHeadOf(const AttentionGeometry& g, const AttentionOperands& in, const AttentionSequence& s,
                      int64_t queryHead, int64_t keyHead, int64_t* visible);

// Null where x is absent.
inline float* rowsFrom(const Tensor& x, int64_t offset) { return x ? x.data<float>() + offset : nullptr; }

struct ShortForward {
  ShortHead head;
  float *o, *lse;
  float *to, *mu;  // null where no tangent is asked for
};

struct ShortBackward {
  ShortHead head;
  const float *o, *lse;
  const float *to, *mu;  // null without a tangent
  const float *g, *h;    // null: zero
  // Null: not needed.
  float *gq, *gk, *gv, *gtq, *gtk, *gtv;
};

// `scratch` has room for so many numbers and begins with a cache line.
int64_t shortForwardRoom(int64_t queries, int64_t keys, int64_t dim);
int64_t shortBackwardRoom(int64_t queries, int64_t keys, int64_t dim);
void shortForward(const ShortForward& t, float* scratch);
void shortBackward(const ShortBackward& t, float* scratch);

}  // namespace flowmap::cpu
