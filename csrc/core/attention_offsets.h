// What the offsets of packed sequences must hold. Only kernels see the values: every device says the same words.
#pragma once

#include <cstdint>

#include "core/error.h"

namespace flowmap {

// Which offsets, and of how many tokens ("queries" or "keys").
struct AttentionOffsets {
  const char* argument;
  const char* tokens;
  int64_t total;
};

inline AttentionOffsets queryOffsetsOf(int64_t queries) { return {"queryOffsets", "queries", queries}; }
inline AttentionOffsets keyOffsetsOf(int64_t keys) { return {"keyOffsets", "keys", keys}; }

// Refuses offset `index` of `count`, `value` after `previous`, if it is not as it must be.
inline void checkOffset(const AttentionOffsets& what, int64_t index, int64_t count, int64_t previous, int64_t value) {
  if (index == 0 && value != 0) {
    fail(ErrorCode::Argument, "attention", what.argument, " must begin at 0, got ", value);
  }
  if (index > 0 && value < previous) {
    fail(ErrorCode::Argument, "attention", what.argument, " must not decrease, got ", value, " after ", previous,
         " at index ", index);
  }
  if (index == count - 1 && value != what.total) {
    fail(ErrorCode::Argument, "attention", what.argument, " must end at ", what.total, " (the ", what.tokens, "), got ",
         value);
  }
}

inline void checkOffsets(const AttentionOffsets& what, const int32_t* offsets, int64_t count) {
  for (int64_t i = 0; i < count; ++i) checkOffset(what, i, count, i > 0 ? offsets[i - 1] : 0, offsets[i]);
}

}  // namespace flowmap
