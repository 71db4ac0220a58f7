// Attention's backward on tensor cores, for the value and its tangent: a kernel for the gradients of the queries, then
// one for those of keys and values. Nothing is summed by atomics, so that the same operands give the same bits, but
// where the caller does without that: then the second kernel may give the gradients of the queries, too.
#pragma once

#include <cstdint>
#include <optional>

#include "cuda/attention_backward_call.cuh"
#include "cuda/attention_dkv.cuh"
#include "cuda/attention_dq.cuh"

namespace flowmap::cuda {

constexpr int kLeastShared = 99 * 1024;  // what every device since Ampere gives a block

template <class Tile, Moving kWhat, class T>
void launchDq(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  constexpr int kBytes = DqShared<Tile, kWhat>::kBytes;
  static_assert(kBytes <= kLeastShared || !Tile::kBoth);
  launchHeads<Tile>(runtime, attentionDqKernel<T, Tile, kWhat>, kBytes, p, p.queries, heads);
}

template <class Tile, Moving kWhat, KeyGradients kOf, bool kFused = false, class T>
void launchDkv(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  constexpr int kBytes = DkvShared<Tile, kWhat, kOf, kFused>::kBytes;
  static_assert(kBytes <= kLeastShared || !Tile::kBoth || kFused);
  launchHeads<Tile>(runtime, attentionDkvKernel<T, Tile, kWhat, kOf, kFused>, kBytes, p, p.keys, heads / p.group);
}

template <int kDim>
using DkvTileOf = DkvTile<kDim, 4, kDim <= 64 ? 32 : 16>;

// Of the kernel that has the gradients of the queries as well.
template <int kDim>
constexpr KeyGradients kFusedOf = kDim <= 64 ? KeyGradients::All : KeyGradients::OfKeys;

// a and delta, the keys' gradients with sums of the queries', and these at last.
template <int kDim, class T>
void launchBackwardFused(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  using Tile = DkvTileOf<kDim>;
  BackwardParams<T> outputs = p;
  outputs.gq = outputs.gtq = nullptr;
  launchDq<DqTile<kDim, 4, kDim <= 96 ? 32 : 16>, Moving::All>(runtime, outputs, heads);
  if constexpr (kFusedOf<kDim> == KeyGradients::OfKeys) {
    if (p.gv != nullptr || p.gtv != nullptr) launchDkv<Tile, Moving::All, KeyGradients::OfValues>(runtime, p, heads);
  }
  launchDkv<Tile, Moving::All, kFusedOf<kDim>, true>(runtime, p, heads);
  const int64_t ofBatchRow = int64_t{p.heads} * p.queries * p.dim, count = heads / p.heads * ofBatchRow;
  launchKernel(runtime, finishQueryGradientsKernel<T>, gridFor(runtime, count), p, count, ofBatchRow);
}

// Bytes of shared memory that takes.
inline int fusedBytes(int dim) {
  const auto bytes = [](auto tile) {
    using Tile = decltype(tile);
    return DkvShared<Tile, Moving::All, kFusedOf<Tile::kDim>, true>::kBytes;
  };
  return dim <= 32   ? bytes(DkvTileOf<32>())
         : dim <= 64 ? bytes(DkvTileOf<64>())
         : dim <= 80 ? bytes(DkvTileOf<80>())
         : dim <= 96 ? bytes(DkvTileOf<96>())
                     : bytes(DkvTileOf<128>());
}

// Four gradients of a head 80 wide fill the registers; of wider heads there are launches for two and two.
template <int kDim, Moving kWhat, class T>
void launchBackwardSize(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  if constexpr (kWhat == Moving::All) {
    if (p.gqSums != nullptr || p.gtqSums != nullptr) return launchBackwardFused<kDim>(runtime, p, heads);
  }
  launchDq<DqTile<kDim, 4, kDim <= 96 ? 32 : 16>, kWhat>(runtime, p, heads);
  const bool ofKeys = p.gk != nullptr || p.gtk != nullptr, ofValues = p.gv != nullptr || p.gtv != nullptr;
  using Tile = DkvTileOf<kDim>;
  if constexpr (kWhat == Moving::All && kDim > 80) {
    if (ofValues) launchDkv<Tile, kWhat, KeyGradients::OfValues>(runtime, p, heads);
    if (ofKeys) launchDkv<Tile, kWhat, KeyGradients::OfKeys>(runtime, p, heads);
  } else {
    if (ofKeys || ofValues) launchDkv<Tile, kWhat, KeyGradients::All>(runtime, p, heads);
  }
}

// Heads wider than 128: see attention_backward_wide.cuh.
template <Moving kWhat, class T>
void launchBackwardWide(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads);

template <Moving kWhat, bool kWide, class T>
void launchBackward(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  if constexpr (kWide)
    launchBackwardWide<kWhat>(runtime, p, heads);
  else if (p.dim <= 32)
    launchBackwardSize<32, kWhat>(runtime, p, heads);
  else if (p.dim <= 64)
    launchBackwardSize<64, kWhat>(runtime, p, heads);
  else if (p.dim <= 80)
    launchBackwardSize<80, kWhat>(runtime, p, heads);
  else if (p.dim <= 96)
    launchBackwardSize<96, kWhat>(runtime, p, heads);
  else
    launchBackwardSize<128, kWhat>(runtime, p, heads);
}

// Element is BFloat16 or Float16.
template <class Element, bool kWide = false>
void launchAttentionBackward(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                             const AttentionResults& saved, const Tensor& g, const Tensor& h) {
  const AttentionOperands& in = call.in;
  const BackwardCall<Element> backward(runtime, call, out, saved, g, h);
  auto p = backward.params;
  std::optional<Scratch<float>> sums;
  if (!kWide && backward.moving == Moving::All && !call.geometry.deterministic && (out.gq || out.gtq) &&
      (out.gk || out.gtk) && fusedBytes(p.dim) <= static_cast<int64_t>(runtime.sharedMemoryPerBlock())) {
    const int64_t size = in.q.numel(), count = (out.gq ? 1 : 0) + (out.gtq ? 1 : 0);
    sums.emplace(in.q.device(), count * size);
    check(cudaMemsetAsync(sums->data(), 0, count * size * sizeof(float), runtime.stream()), "cudaMemsetAsync");
    p.gqSums = out.gq ? sums->data() : nullptr;
    p.gtqSums = out.gtq ? sums->data() + (count - 1) * size : nullptr;
  }
  if (backward.moving == Moving::None)
    launchBackward<Moving::None, kWide>(runtime, p, backward.heads);
  else if (backward.moving == Moving::All)
    launchBackward<Moving::All, kWide>(runtime, p, backward.heads);
  else
    launchBackward<Moving::Queries, kWide>(runtime, p, backward.heads);
}

}  // namespace flowmap::cuda
