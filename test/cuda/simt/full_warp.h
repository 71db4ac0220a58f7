// Instructions that all 32 lanes of a warp execute together: matrices of registers.
#pragma once

#include "block.h"

namespace flowmap::simt {

constexpr uint32_t kFullWarp = 0xffffffffu;

/** `body`, when every lane came: a lane that ended is no longer waited for, but its part is missing. */
template <Collective body>
void withFullWarp(Warp& warp, uint32_t arrived) {
  if (arrived != kFullWarp) {
    const Thread& first = warp.lane(uint32_t(std::countr_zero(arrived)));
    first.fail(format("%s without lane %d, which has ended", first.at->text, std::countr_one(arrived)));
  }
  body(warp, arrived);
}

template <Collective body>
void runFullWarp(Thread& thread, const Instruction& instruction) {
  if (thread.warp->lanes != kFullWarp) {
    thread.fail(format("%s in a warp of %d threads: it needs 32", instruction.text, std::popcount(thread.warp->lanes)));
  }
  thread.block->joinCollective(thread, instruction, kFullWarp, withFullWarp<body>);
}

}  // namespace flowmap::simt
