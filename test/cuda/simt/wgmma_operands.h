// Operands of wgmma in shared memory: matrix descriptors, and where they put an element.
#pragma once

#include "block.h"

namespace flowmap::simt {

/** Of 16-bit elements; mn is a row of A or a column of B. */
struct MatrixDescriptor {
  uint32_t start, leading, stride;  // bytes
  uint32_t width;                   // of a swizzled row; 16 without swizzling
  uint32_t baseOffset;
  bool mnMajor;

  MatrixDescriptor(uint64_t bits, bool mnMajor);
  /** Of 8 elements that lie together: from (mn, k) on along k, or along mn where that is the major one. */
  uint64_t chunk(uint32_t mn, uint32_t k) const;
};

/** Fails where the operand starts inside of a swizzle pattern, which only a base offset would allow. */
void checkDescriptor(const Thread&, const MatrixDescriptor&, char operand);

/** Fails where the 16 bytes are not in the block's shared memory. */
const uint8_t* operandChunk(const Thread&, uint64_t address, const uint8_t*& shadow);

}  // namespace flowmap::simt
