// The backward kernels for heads of 136 to 256. Registers hold one gradient of such a head: gq, gk and gv come from a
// launch each, and those of the tangents from the kernels of plain attention, since (gtq, gtk, gtv) are what the
// former would be if g were h; delta is a then.
#pragma once

#include "cuda/attention_backward.cuh"

namespace flowmap::cuda {

// The own side has kWarps strips of 16 rows, and meets 16 of the other's at a time. With a single stage nothing is
// copied ahead.
template <int kDim_, int kWarps, int kStages_>
struct WideBackwardTile {
  static constexpr int kDim = kDim_, kKeys = 16, kQueries = 16;
  static constexpr int kThreads = 32 * kWarps, kRows = 16 * kWarps, kStages = kStages_;
  static constexpr bool kBoth = false;
};

template <Moving kWhat>
struct WideDq {
  template <class Tile>
  static constexpr int kBytes = DqShared<Tile, kWhat>::kBytes;
  template <class Tile, class T>
  static void launch(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
    launchDq<Tile, kWhat>(runtime, p, heads);
  }
};

template <Moving kWhat, KeyGradients kOf>
struct WideDkv {
  template <class Tile>
  static constexpr int kBytes = DkvShared<Tile, kWhat, kOf>::kBytes;
  template <class Tile, class T>
  static void launch(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
    launchDkv<Tile, kWhat, kOf>(runtime, p, heads);
  }
};

// The first of the tiles that the device has shared memory for; the last fits every device.
template <class Kernel, class Tile, class... Smaller, class T>
void launchBackwardFitting(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  constexpr int kBytes = Kernel::template kBytes<Tile>;
  if constexpr (sizeof...(Smaller) > 0) {
    if (kBytes > static_cast<int64_t>(runtime.sharedMemoryPerBlock()))
      return launchBackwardFitting<Kernel, Smaller...>(runtime, p, heads);
  } else {
    static_assert(kBytes <= kLeastShared);
  }
  Kernel::template launch<Tile>(runtime, p, heads);
}

// Of the kernels with all tangents that have tiles of all operands.
template <class Kernel, int kDim, class T>
void launchMovingOfSize(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  if constexpr (kDim == 192)
    launchBackwardFitting<Kernel, WideBackwardTile<192, 4, 2>, WideBackwardTile<192, 2, 2>>(runtime, p, heads);
  else
    launchBackwardFitting<Kernel, WideBackwardTile<256, 4, 2>, WideBackwardTile<256, 4, 1>,
                          WideBackwardTile<256, 2, 1>>(runtime, p, heads);
}

template <int kDim, Moving kWhat, class T>
void launchDqOfSize(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  if constexpr (kWhat == Moving::None)
    launchBackwardFitting<WideDq<kWhat>, WideBackwardTile<kDim, 4, 2>>(runtime, p, heads);
  else
    launchMovingOfSize<WideDq<kWhat>, kDim>(runtime, p, heads);
}

template <int kDim, Moving kWhat, class T>
void launchDkvOfSize(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  using OfKeys = WideDkv<kWhat, KeyGradients::OfKeys>;
  using OfValues = WideDkv<kWhat, KeyGradients::OfValues>;
  constexpr bool kMoving = kWhat != Moving::None;
  if (p.gv != nullptr) {
    if constexpr (kMoving && kDim == 256)
      launchBackwardFitting<OfValues, WideBackwardTile<256, 4, 2>, WideBackwardTile<256, 4, 1>>(runtime, p, heads);
    else
      launchBackwardFitting<OfValues, WideBackwardTile<kDim, 4, 2>>(runtime, p, heads);
  }
  if (p.gk == nullptr) return;
  if constexpr (!kMoving)
    launchBackwardFitting<OfKeys, WideBackwardTile<kDim, 4, 2>>(runtime, p, heads);
  else
    launchMovingOfSize<OfKeys, kDim>(runtime, p, heads);
}

template <int kDim, bool kMoving, class T>
void launchBackwardWideSize(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  if constexpr (kMoving) {
    BackwardParams<T> ofTangent = p;
    ofTangent.g = p.h, ofTangent.delta = p.a;
    ofTangent.gq = p.gtq, ofTangent.gk = p.gtk, ofTangent.gv = p.gtv;
    if (p.gtq != nullptr) launchDqOfSize<kDim, Moving::None>(runtime, ofTangent, heads);
    launchDqOfSize<kDim, Moving::All>(runtime, p, heads);
    launchDkvOfSize<kDim, Moving::None>(runtime, ofTangent, heads);
    launchDkvOfSize<kDim, Moving::All>(runtime, p, heads);
  } else {
    launchDqOfSize<kDim, Moving::None>(runtime, p, heads);
    launchDkvOfSize<kDim, Moving::None>(runtime, p, heads);
  }
}

// The queries' tangent alone has no kernels of its own.
template <Moving kWhat, class T>
void launchBackwardWide(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  constexpr bool kMoving = kWhat != Moving::None;
  if (p.dim <= 192)
    launchBackwardWideSize<192, kMoving>(runtime, p, heads);
  else
    launchBackwardWideSize<256, kMoving>(runtime, p, heads);
}

}  // namespace flowmap::cuda
