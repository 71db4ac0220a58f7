// Which attention the kernels for Hopper (compute capability 9.0) take over from those of mma.sync.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "cuda/attention.h"

namespace flowmap::cuda {

// FLOWMAP_HOPPER, for comparisons: "off" leaves them out; "pair" leaves out the backward kernel for short sequences;
// "fused" takes those that sum in no given order where the call is content with that.
enum class HopperChoice { All, Pair, Fused, Off };

inline HopperChoice hopperChoice() {
  static const HopperChoice choice = [] {
    const char* const given = std::getenv("FLOWMAP_HOPPER");
    if (given == nullptr || *given == 0) return HopperChoice::All;
    const std::string_view named(given);
    if (named == "off") return HopperChoice::Off;
    if (named == "pair") return HopperChoice::Pair;
    if (named == "fused") return HopperChoice::Fused;
    fail(ErrorCode::Argument, "attention", "FLOWMAP_HOPPER must be 'pair', 'fused', 'off' or unset, got '", named, "'");
  }();
  return choice;
}

// Of what the fused kernels take: not packed sequences, whose tiles TMA would read on into the next one, nor what
// changes tiles as they arrive. Blocks count tiles of 64 or more tokens of all heads in an int.
inline bool runsOnHopper(const Runtime& runtime, const AttentionGeometry& g) {
  const int64_t tiles = (std::max(g.queries, g.keys) / 64 + 1) * g.batch * g.queryHeads;
  return runtime.major() == 9 && runtime.minor() == 0 && hopperChoice() != HopperChoice::Off && g.dim <= 128 &&
         g.keys > 0 && !g.packed && !g.normalize && !g.centerKeys && tiles < int64_t{1} << 30;
}

// Without determinism mma.sync has a backward kernel for all gradients, too: which is faster is not known.
inline bool backwardOnHopper(const Runtime& runtime, const AttentionGeometry& g) {
  return runsOnHopper(runtime, g) && (g.deterministic || hopperChoice() == HopperChoice::Fused);
}

// See attention_forward_hopper.cuh.
void attentionForwardHopperBFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out);
void attentionForwardHopperFloat16(const Runtime& runtime, const AttentionCall& call, const AttentionResults& out);

}  // namespace flowmap::cuda
