// Attention's backward on tensor cores, for the value and its tangent: a kernel for the gradients of the queries, then
// one for those of keys and values. Nothing is summed by atomics: the same operands give the same bits.
#pragma once

#include <cstdint>

#include "cuda/attention_dkv.cuh"
#include "cuda/attention_dq.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {

constexpr int kLeastShared = 99 * 1024;  // what every device since Ampere gives a block

template <class Tile, Moving kWhat, class T>
void launchDq(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  constexpr int kBytes = DqShared<Tile, kWhat>::kBytes;
  static_assert(kBytes <= kLeastShared || !Tile::kBoth);
  launchHeads<Tile>(runtime, attentionDqKernel<T, Tile, kWhat>, kBytes, p, p.queries, heads);
}

template <class Tile, Moving kWhat, KeyGradients kOf, class T>
void launchDkv(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  constexpr int kBytes = DkvShared<Tile, kWhat, kOf>::kBytes;
  static_assert(kBytes <= kLeastShared || !Tile::kBoth);
  launchHeads<Tile>(runtime, attentionDkvKernel<T, Tile, kWhat, kOf>, kBytes, p, p.keys, heads / p.group);
}

// Four gradients of a head 80 wide fill the registers; of wider heads there are launches for two and two.
template <int kDim, Moving kWhat, class T>
void launchBackwardSize(const Runtime& runtime, const BackwardParams<T>& p, int64_t heads) {
  launchDq<DqTile<kDim, 4, kDim <= 96 ? 32 : 16>, kWhat>(runtime, p, heads);
  const bool ofKeys = p.gk != nullptr || p.gtk != nullptr, ofValues = p.gv != nullptr || p.gtv != nullptr;
  using Tile = DkvTile<kDim, 4, kDim <= 64 ? 32 : 16>;
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

// Element is BFloat16 or Float16. Without a cotangent of the tangent the tangents do not matter, and have no gradient.
template <class Element, bool kWide = false>
void launchAttentionBackward(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
                             const AttentionResults& saved, const Tensor& g, const Tensor& h) {
  using T = TensorCore<Element>;
  const AttentionGeometry& geometry = call.geometry;
  const AttentionOperands& in = call.in;
  const auto read = [](const Tensor& x) { return x ? reinterpret_cast<const T*>(x.data<const Element>()) : nullptr; };
  const auto write = [](const Tensor& x) { return x ? reinterpret_cast<T*>(x.data<Element>()) : nullptr; };
  const int64_t heads = geometry.batch * geometry.queryHeads, rows = heads * geometry.queries;
  const Scratch<float> scratch(in.q.device(), (h ? 2 : 1) * rows);
  BackwardParams<T> p(call);
  p.q = read(in.q), p.k = read(in.k), p.v = read(in.v);
  p.o = read(saved.o), p.g = read(g);
  p.gq = write(out.gq), p.gk = write(out.gk), p.gv = write(out.gv);
  p.lse = saved.lse.data<const float>();
  p.delta = scratch.data();
  if (h) {
    p.tq = read(in.tq), p.tk = read(in.tk), p.tv = read(in.tv);
    p.to = read(saved.to), p.h = read(h);
    p.gtq = write(out.gtq), p.gtk = write(out.gtk), p.gtv = write(out.gtv);
    p.mu = saved.mu ? saved.mu.data<const float>() : nullptr;
    p.a = scratch.data() + rows;
  } else {
    for (const Tensor* x : {&out.gtq, &out.gtk, &out.gtv}) {
      if (!*x) continue;
      check(cudaMemsetAsync(x->data<Element>(), 0, x->numel() * sizeof(Element), runtime.stream()), "cudaMemsetAsync");
    }
  }
  if (!h)
    launchBackward<Moving::None, kWide>(runtime, p, heads);
  else if (in.tk || in.tv || out.gtk || out.gtv)
    launchBackward<Moving::All, kWide>(runtime, p, heads);
  else
    launchBackward<Moving::Queries, kWide>(runtime, p, heads);
}

}  // namespace flowmap::cuda
