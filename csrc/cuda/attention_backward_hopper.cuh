// Attention's backward for Hopper, by TMA and wgmma: the two kernels of attention_backward.cuh, heads of up to 64, 96
// and 128, deterministic, without what the host would have to prepare (see attention_hopper.h); one kernel for both for
// short sequences, and another where sums may have any order.
#pragma once

#include <type_traits>

#include "cuda/attention_backward_call.cuh"
#include "cuda/attention_cluster_hopper.cuh"
#include "cuda/attention_dkv_hopper.cuh"
#include "cuda/attention_dq_hopper.cuh"
#include "cuda/attention_fused_hopper.cuh"
#include "cuda/attention_hopper.h"
#include "cuda/attention_split_hopper.cuh"

namespace flowmap::cuda {

template <class Tile, Moving kWhat, class T>
void launchDqHopper(const Runtime& runtime, HopperBackwardParams<T>& p, int64_t heads) {
  constexpr int kBytes = HopperDqShared<Tile, kWhat>::kBytes;
  static_assert(kBytes + 1024 <= kHopperShared);
  encodeMaps<kWhat, typename Tile::Own, typename Tile::Other>(p, heads / p.heads);
  launchHeads<Tile>(runtime, attentionDqHopperKernel<T, Tile, kWhat>, kBytes, p, p.queries, heads);
}

template <class Tile, Moving kWhat, KeyGradients kOf, class T>
void launchDkvHopper(const Runtime& runtime, HopperBackwardParams<T>& p, int64_t heads) {
  constexpr int kBytes = HopperDkvShared<Tile, kWhat, kOf>::kBytes;
  static_assert(kBytes + 1024 <= kHopperShared);
  encodeMaps<kWhat, typename Tile::Other, typename Tile::Own>(p, heads / p.heads);
  launchHeads<Tile>(runtime, attentionDkvHopperKernel<T, Tile, kWhat, kOf>, kBytes, p, p.keys, heads / p.group);
}

// The other side's rows are as many as leave room for the accumulators: those of the own rows' gradients, and of two
// scores of the others, or four with tangents. Four gradients of a head wider than 64 fill the registers; there are
// launches for two and two then.
template <int kDim, Moving kWhat, class T>
void launchBackwardHopperSize(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  constexpr bool kAll = kWhat == Moving::All, kNarrow = kDim == 64;
  HopperBackwardParams<T> hopper(p);
  launchDqHopper<HopperDqTile<kDim, kNarrow || kWhat == Moving::None ? 64 : 32, 2>, kWhat>(runtime, hopper, heads);
  const bool ofKeys = p.gk != nullptr || p.gtk != nullptr, ofValues = p.gv != nullptr || p.gtv != nullptr;
  using Wide = HopperDkvTile<kDim, 64, 2>;
  using Short = HopperDkvTile<kDim, 32, kNarrow ? 4 : 2>;
  if constexpr (kAll && !kNarrow) {
    if (ofValues) launchDkvHopper<Wide, kWhat, KeyGradients::OfValues>(runtime, hopper, heads);
    if (ofKeys) launchDkvHopper<Short, kWhat, KeyGradients::OfKeys>(runtime, hopper, heads);
  } else {
    using Tile = std::conditional_t<kWhat == Moving::None, Wide, Short>;
    if (ofKeys || ofValues) launchDkvHopper<Tile, kWhat, KeyGradients::All>(runtime, hopper, heads);
  }
}

template <Moving kWhat, class T>
void launchBackwardHopper(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  if (p.dim <= 64)
    launchBackwardHopperSize<64, kWhat>(runtime, p, heads);
  else if (p.dim <= 96)
    launchBackwardHopperSize<96, kWhat>(runtime, p, heads);
  else
    launchBackwardHopperSize<128, kWhat>(runtime, p, heads);
}

// a and delta alone.
template <class Tile, class T>
void launchOutputProducts(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  HopperBackwardParams<T> outputs(p);
  outputs.gq = outputs.gtq = nullptr;
  launchDqHopper<Tile, Moving::All>(runtime, outputs, heads);
}

// Where sums may have any order.
template <class T>
void launchBackwardInOne(const Runtime& runtime, Device& device, const BackwardParams<T>& p, int64_t heads) {
  if (p.dim <= 64) {
    launchOutputProducts<HopperDqTile<64, 64, 2>>(runtime, p, heads);
    launchFusedHopper<T>(runtime, device, p, heads);
  } else if (p.dim <= 96) {
    launchOutputProducts<HopperDqTile<96, 32, 2>>(runtime, p, heads);
    launchSplit<96, T>(runtime, device, p, heads);
  } else {
    launchOutputProducts<HopperDqTile<128, 32, 2>>(runtime, p, heads);
    launchSplit<128, T>(runtime, device, p, heads);
  }
}

template <class Element>
void launchAttentionBackwardHopper(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                                   const AttentionResults& saved, const Tensor& g, const Tensor& h) {
  const BackwardCall<Element> backward(runtime, call, out, saved, g, h);
  const bool inOne =
      !call.geometry.deterministic && backward.moving == Moving::All && (out.gq || out.gtq) && (out.gk || out.gtk);
  if (inOne) return launchBackwardInOne(runtime, call.in.q.device(), backward.params, backward.heads);
  if (backward.moving == Moving::None)
    launchBackwardHopper<Moving::None>(runtime, backward.params, backward.heads);
  else if (backward.moving == Moving::Queries)
    launchBackwardHopper<Moving::Queries>(runtime, backward.params, backward.heads);
  else if (hopperChoice() == HopperChoice::Pair || !launchBackwardClusters(runtime, backward.params, backward.heads))
    launchBackwardHopper<Moving::All>(runtime, backward.params, backward.heads);
}

}  // namespace flowmap::cuda
