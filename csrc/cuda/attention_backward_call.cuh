// A call of attention's backward as its kernels take it: what there is of operands and gradients, which tangents
// matter, and room for what the first kernel tells the second.
#pragma once

#include <cstdint>

#include "cuda/attention_backward_products.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {

// Element is BFloat16 or Float16. Without a cotangent of the tangent the tangents do not matter, and have no gradient.
template <class Element>
struct BackwardCall {
  using T = TensorCore<Element>;
  const int64_t heads;
  const Moving moving;

 private:
  const Scratch<float> known_;

 public:
  BackwardParams<T> params;

  BackwardCall(const Runtime& runtime, const AttentionCall& call, const AttentionGradients& out,
               const AttentionResults& saved, const Tensor& g, const Tensor& h)
      : heads(call.geometry.batch * call.geometry.queryHeads),
        moving(!h                                               ? Moving::None
               : call.in.tk || call.in.tv || out.gtk || out.gtv ? Moving::All
                                                                : Moving::Queries),
        known_(call.in.q.device(), (h ? 2 : 1) * heads * call.geometry.queries),
        params(call) {
    const AttentionOperands& in = call.in;
    const auto read = [](const Tensor& x) { return x ? reinterpret_cast<const T*>(x.data<const Element>()) : nullptr; };
    const auto write = [](const Tensor& x) { return x ? reinterpret_cast<T*>(x.data<Element>()) : nullptr; };
    BackwardParams<T>& p = params;
    p.q = read(in.q), p.k = read(in.k), p.v = read(in.v);
    p.o = read(saved.o), p.g = read(g);
    p.gq = write(out.gq), p.gk = write(out.gk), p.gv = write(out.gv);
    p.lse = saved.lse.data<const float>();
    p.delta = known_.data();
    if (h) {
      p.tq = read(in.tq), p.tk = read(in.tk), p.tv = read(in.tv);
      p.to = read(saved.to), p.h = read(h);
      p.gtq = write(out.gtq), p.gtk = write(out.gtk), p.gtv = write(out.gtv);
      p.mu = saved.mu ? saved.mu.data<const float>() : nullptr;
      p.a = known_.data() + heads * call.geometry.queries;
      return;
    }
    for (const Tensor* x : {&out.gtq, &out.gtk, &out.gtv}) {
      if (!*x) continue;
      check(cudaMemsetAsync(x->data<Element>(), 0, x->numel() * sizeof(Element), runtime.stream()), "cudaMemsetAsync");
    }
  }
};

}  // namespace flowmap::cuda
