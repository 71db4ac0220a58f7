// Descriptors by the ISA's canonical layouts (CUTLASS: mma_traits_sm90_gmma.hpp).
#include "wgmma_operands.h"

#include "swizzle.h"

namespace flowmap::simt {

namespace {

constexpr uint32_t kElement = 2, kChunkElements = 8, kChunk = kChunkElements * kElement, kRows = 8;

uint32_t field(uint64_t bits, int from) { return uint32_t(bits >> from & 0x3fff) << 4; }

}  // namespace

MatrixDescriptor::MatrixDescriptor(uint64_t bits, bool isMnMajor)
    : start(field(bits, 0)),
      leading(field(bits, 16)),
      stride(field(bits, 32)),
      baseOffset(uint32_t(bits >> 49 & 7)),
      mnMajor(isMnMajor) {
  static constexpr uint32_t kWidths[] = {16, 128, 64, 32};
  width = kWidths[bits >> 62];
}

uint64_t MatrixDescriptor::chunk(uint32_t mn, uint32_t k) const {
  uint64_t at = start;
  if (!mnMajor) {
    at += mn / kRows * stride + mn % kRows * width;
    at += k * kElement;
  } else {
    const uint32_t inRow = width / kElement;
    at += mn / inRow * leading + mn % inRow * kElement + k / kRows * stride + k % kRows * width;
  }
  return swizzled(at, width);
}

void checkDescriptor(const Thread& t, const MatrixDescriptor& d, char operand) {
  if (d.width == kChunk)
    t.fail(format("%s: the descriptor of %c has no swizzle, which is not supported", t.at->text, operand));
  if (d.baseOffset) t.fail(format("%s: a base offset in the descriptor of %c is not supported", t.at->text, operand));
  // The pattern repeats after 8 rows; an operand may start at any 16 bytes of the first row.
  const uint32_t pattern = kRows * d.width;
  if ((d.start & ~127u) % pattern == 0) return;
  t.fail(format("%s: the descriptor of %c starts at 0x%x, inside of a swizzle pattern of %u bytes", t.at->text, operand,
                d.start, pattern));
}

const uint8_t* operandChunk(const Thread& t, uint64_t address, const uint8_t*& shadow) {
  const Block& block = *t.block;
  const uint64_t at = address - kSharedBase;
  if (address < kSharedBase || at + kChunk > block.shared.size()) {
    t.fail(format("%s reads 16 bytes at shared 0x%llx, outside the block's %zu bytes from 0x%llx", t.at->text,
                  (unsigned long long)address, block.shared.size(), (unsigned long long)kSharedBase));
  }
  shadow = &block.sharedShadow[at];
  return &block.shared[at];
}

}  // namespace flowmap::simt
