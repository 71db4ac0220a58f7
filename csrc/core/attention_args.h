// What attention kernels are given. B batch, H query heads, Hk key heads (H a multiple), Sq queries, Sk keys, D head
// size.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace flowmap {

struct AttentionGeometry {
  int64_t batch = 0, queryHeads = 0, keyHeads = 0, queries = 0, keys = 0, dim = 0;
  // Packed sequences, [total tokens, H, D]: then batch is 1, heads are inner, and queries and keys are those of all
  // sequences together.
  bool packed = false;
  int64_t sequences = 0;
  bool headsInner = false;  // [B, S, H, D] rather than [B, H, S, D]
  bool causal = false;      // query i sees keys up to i + Sk − Sq (of its sequence)
  double scale = 1;
  // q and k are RMS-normalised head by head and multiplied by their weights first (QKNorm).
  bool normalize = false;
  double eps = 0;
  // The mean of the keys (after QKNorm), and that of their tangents, are taken off first: no result changes but for
  // rounding.
  bool centerKeys = false;
  // The backward pass gives the same bits every time.
  bool deterministic = true;

  // Where a head's rows begin, and how far apart they are, in elements.
  int64_t headOffset(int64_t b, int64_t h, int64_t heads, int64_t tokens) const {
    return headsInner ? (b * tokens * heads + h) * dim : (b * heads + h) * tokens * dim;
  }
  int64_t rowStride(int64_t heads) const { return headsInner ? heads * dim : dim; }
};

struct AttentionOperands {
  Tensor q, k, v;
  Tensor tq, tk, tv;  // absent: zero
  Tensor keyLengths;  // int32 [B]; absent: all keys
  // int32 [sequences + 1]: sequence i has the tokens from offset i up to offset i + 1. Absent: not packed.
  Tensor queryOffsets, keyOffsets;
  Tensor qWeight, kWeight;  // [D]; absent: ones
};

// Kept for the backward pass. lse and mu are [B, H, Sq] in the statistics dtype: the logarithm of the sum of
// exponentials (+∞ where a query sees no key), and the tangent's mean under the attention weights.
struct AttentionResults {
  Tensor o, lse, to, mu;
};

struct AttentionGradients {
  Tensor gq, gk, gv, gtq, gtk, gtv;
  Tensor gqWeight, gkWeight;
};

}  // namespace flowmap
