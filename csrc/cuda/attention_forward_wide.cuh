// The forward kernel for heads of 136 to 256. Without tangents it has all of O; with them O and tO of half the columns,
// in two launches that both compute S and T over all: that is 9 products of matrices for 6, and no more registers than
// a head of 128 takes.
#pragma once

#include "cuda/attention_forward.cuh"

namespace flowmap::cuda {

// kValueDim columns of the values. With a single stage K is copied during the products with V, and V during the others.
template <int kDim_, int kValueDim_, int kWarps, int kStages_>
struct WideForwardTile {
  static constexpr int kDim = kDim_, kValueDim = kValueDim_, kStrips = 1, kKeys = 16;
  static constexpr int kThreads = 32 * kWarps, kRows = 16 * kWarps;
  static constexpr int kStages = kStages_;
  static constexpr bool kRolled = true;
};

template <class T, Tangents kTangents, class Tile, class... Smaller>
void launchForwardHalves(const Runtime& runtime, const ForwardParams<T>& whole, int64_t heads) {
  ForwardParams<T> p = whole;
  p.valueDim = Tile::kValueDim;
  launchForwardFitting<T, kTangents, Tile, Smaller...>(runtime, p, heads);
  const auto skip = [](auto& x) { x += x == nullptr ? 0 : Tile::kValueDim; };
  skip(p.v), skip(p.tv), skip(p.o), skip(p.to);
  p.valueDim = p.dim - Tile::kValueDim;
  p.lse = p.mu = nullptr;
  launchForwardFitting<T, kTangents, Tile, Smaller...>(runtime, p, heads);
}

template <class T, Tangents kTangents>
void launchForwardWide(const Runtime& runtime, const ForwardParams<T>& p, int64_t heads) {
  const bool narrower = p.dim <= 192;
  if constexpr (kTangents == Tangents::None) {
    if (narrower)
      launchForwardFitting<T, kTangents, WideForwardTile<192, 192, 8, 2>>(runtime, p, heads);
    else
      launchForwardFitting<T, kTangents, WideForwardTile<256, 256, 8, 2>>(runtime, p, heads);
  } else if (narrower) {
    launchForwardHalves<T, kTangents, WideForwardTile<192, 96, 8, 2>, WideForwardTile<192, 96, 4, 2>>(runtime, p,
                                                                                                      heads);
  } else if constexpr (kTangents == Tangents::Queries) {
    launchForwardHalves<T, kTangents, WideForwardTile<256, 128, 8, 2>, WideForwardTile<256, 128, 4, 2>>(runtime, p,
                                                                                                        heads);
  } else {
    launchForwardHalves<T, kTangents, WideForwardTile<256, 128, 8, 2>, WideForwardTile<256, 128, 8, 1>,
                        WideForwardTile<256, 128, 4, 1>>(runtime, p, heads);
  }
}

}  // namespace flowmap::cuda
