// Attention's backward for Hopper, by TMA and wgmma: the two kernels of attention_backward.cuh, heads of up to 64 and up
// to 128, deterministic, without what the host would have to prepare (see backwardRunsOnHopper in attention.cc).
#pragma once

#include "cuda/attention_backward.cuh"
#include "cuda/attention_dq_hopper.cuh"

namespace flowmap::cuda {

constexpr int kHopperShared = 227 * 1024;

template <class Tile, Moving kWhat, class T>
void launchDqHopper(const Runtime& runtime, HopperBackwardParams<T>& p, int64_t heads) {
  constexpr int kBytes = HopperDqShared<Tile, kWhat>::kBytes;
  static_assert(kBytes + 1024 <= kHopperShared);
  encodeMaps<typename Tile::Own, typename Tile::Other>(p, heads / p.heads);
  launchHeads<Tile>(runtime, attentionDqHopperKernel<T, Tile, kWhat>, kBytes, p, p.queries, heads);
}

template <int kDim, Moving kWhat, class T>
void launchBackwardHopperSize(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  HopperBackwardParams<T> hopper(p);
  launchDqHopper<HopperDqTile<kDim, kDim == 64 ? 64 : 32, 2>, kWhat>(runtime, hopper, heads);
  const bool ofKeys = p.gk != nullptr || p.gtk != nullptr, ofValues = p.gv != nullptr || p.gtv != nullptr;
  if (ofKeys || ofValues) launchDkv<DkvTileOf<kDim>, kWhat, KeyGradients::All>(runtime, p, heads);
}

template <Moving kWhat, class T>
void launchBackwardHopper(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  if (p.dim <= 64)
    launchBackwardHopperSize<64, kWhat>(runtime, p, heads);
  else
    launchBackwardHopperSize<128, kWhat>(runtime, p, heads);
}

template <class Element>
void launchAttentionBackwardHopper(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                                   const AttentionResults& saved, const Tensor& g, const Tensor& h) {
  const BackwardCall<Element> backward(runtime, call, out, saved, g, h);
  if (backward.moving == Moving::None)
    launchBackwardHopper<Moving::None>(runtime, backward.params, backward.heads);
  else if (backward.moving == Moving::All)
    launchBackwardHopper<Moving::All>(runtime, backward.params, backward.heads);
  else
    launchBackwardHopper<Moving::Queries>(runtime, backward.params, backward.heads);
}

}  // namespace flowmap::cuda
