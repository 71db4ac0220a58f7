// Attention, its tangent and the backward of both as the plain composition, for correctness: it writes the matrices of
// all scores to memory, some heads at a time; fused kernels take its place where they can (attention.cc). The backward
// pass computes everything again from the operands and takes nothing from the forward pass, so it can serve as an
// oracle.
#include <cmath>
#include <initializer_list>

#include "cuda/attention.h"
#include "cuda/attention_product.cuh"
#include "cuda/attention_rows.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {
namespace {

using namespace composed;

constexpr int64_t kMostScratch = int64_t{256} << 20;  // bytes of matrices at a time, or those of one key head
constexpr int64_t kMostUnits = 256;                   // key heads at a time

// What all launches of one call share: where operands and matrices lie, and the walk over slices of the key heads.
template <class T>
class Composition {
  using C = Compute<T>;

 public:
  Composition(Runtime& runtime, const AttentionCall& call)
      : runtime_(runtime), g_(call.geometry), in_(call.in), scale_(static_cast<C>(g_.scale)), heads_(call) {
    const AttentionGeometry& g = g_;
    queryRows_ = matrix(g.queryHeads, g.queries, heads_.group);
    keyRows_ = matrix(g.keyHeads, g.keys, 1);
    scores_.member = g.queries * g.keys;
    scores_.unit = heads_.group * scores_.member;
    scores_.row = g.keys;
  }

  void forward(const AttentionResults& out) {
    const bool moving = in_.tq || in_.tk;
    forSlices(moving ? 2 : 1, [&](C* const* matrices, int64_t firstRow) {
      C *s = matrices[0], *t = moving ? matrices[1] : nullptr;
      scores(s, t);
      const auto rowsOf = [&](const Tensor& x) { return x ? x.data<C>() + firstRow : nullptr; };
      launchRows(forwardRowsKernel<C>, s, t, rowsOf(out.lse), rowsOf(out.mu));
      toQueries(out.o, C(1), {{s, &in_.v}});
      toQueries(out.to, C(1), {{t, &in_.v}, {s, &in_.tv}});
    });
  }

  void backward(const AttentionGradients& out, const Tensor& g, const Tensor& h) {
    const bool moving = h && (in_.tq || in_.tk);
    forSlices(moving ? 4
              : h    ? 3
                     : 2,
              [&](C* const* matrices, int64_t) {
                C *s = matrices[0], *r = matrices[1], *d = h ? matrices[2] : nullptr,
                  *t = moving ? matrices[3] : nullptr;
                scores(s, t);
                if (d) toScores(d, C(1), {{&h, &in_.v}});
                toScores(r, C(1), {{&g, &in_.v}, {&h, &in_.tv}});
                launchRows(backwardRowsKernel<C>, s, t, d, r);
                toQueries(out.gq, scale_, {{r, &in_.k}, {d, &in_.tk}});
                toQueries(out.gtq, scale_, {{d, &in_.k}});
                toKeys(out.gk, scale_, {{r, &in_.q}, {d, &in_.tq}});
                toKeys(out.gtk, scale_, {{d, &in_.q}});
                toKeys(out.gv, C(1), {{s, &g}, {t, &h}});
                toKeys(out.gtv, C(1), {{s, &h}});
              });
  }

 private:
  // [heads, tokens, dim] in either layout, of which `group` neighbours belong to a unit.
  HeadMatrix matrix(int64_t heads, int64_t tokens, int64_t group) const {
    HeadMatrix at;
    at.batch = g_.headOffset(1, 0, heads, tokens);
    at.keyHead = group * g_.headOffset(0, 1, heads, tokens);
    at.member = group == 1 ? 0 : g_.headOffset(0, 1, heads, tokens);
    at.row = g_.rowStride(heads);
    return at;
  }

  // Calls body(matrices, first row) for slices of the units, with `count` matrices of scores for each.
  template <class Body>
  void forSlices(int count, Body body) {
    const int64_t units = g_.batch * g_.keyHeads, bytes = count * scores_.unit * static_cast<int64_t>(sizeof(C));
    const int64_t most = std::clamp<int64_t>(kMostScratch / std::max<int64_t>(1, bytes), 1, kMostUnits);
    for (heads_.first = 0; heads_.first < units; heads_.first += most) {
      heads_.count = std::min(most, units - heads_.first);
      const int64_t size = heads_.count * scores_.unit;
      const Scratch<C> scratch(in_.q.device(), std::max<int64_t>(1, count * size));
      C* matrices[4];
      for (int i = 0; i < count; ++i) matrices[i] = scratch.data() + i * size;
      body(matrices, heads_.first * heads_.group * g_.queries);
    }
  }

  void launchRows(auto kernel, auto*... matrices) {
    const RowsShape shape{heads_, g_.queries, g_.causal};
    if (shape.rows() > 0) launchKernel(runtime_, kernel, gridFor(runtime_, shape.rows() * kWarp), matrices..., shape);
  }

  struct Rows {  // rows of queries times rows of keys
    const Tensor *ofQueries, *ofKeys;
  };
  struct Weights {  // weights times rows of keys or, transposed, of queries
    const C* weights;
    const Tensor* rows;
  };

  // A term with an absent operand is left out; a product without terms is zero.
  template <class A, class Out>
  static void addTerm(HeadProduct<A, T, Out>& p, const A* a, const HeadMatrix& aAt, const Tensor& b,
                      const HeadMatrix& bAt) {
    if (a != nullptr && b) p.term[p.terms++] = {{a, aAt}, {b.data<const T>(), bAt}};
  }

  void scores(C* s, C* t) {
    toScores(s, scale_, {{&in_.q, &in_.k}});
    if (t != nullptr) toScores(t, scale_, {{&in_.tq, &in_.k}, {&in_.q, &in_.tk}});
  }
  void toScores(C* out, C factor, std::initializer_list<Rows> terms) {
    HeadProduct<T, T, C> p{heads_, g_.queries, g_.keys, g_.dim, Axes::QueriesKeys, false, factor, {out, scores_}};
    for (const Rows& term : terms)
      addTerm(p, term.ofQueries->template data<const T>(), queryRows_, *term.ofKeys, keyRows_.transposed());
    launchProduct(runtime_, p);
  }
  void toQueries(const Tensor& out, C factor, std::initializer_list<Weights> terms) {
    if (!out) return;
    HeadProduct<C, T, T> p{
        heads_, g_.queries, g_.dim, g_.keys, Axes::QueriesInnerKeys, false, factor, {out.data<T>(), queryRows_}};
    for (const Weights& term : terms) addTerm(p, term.weights, scores_, *term.rows, keyRows_);
    launchProduct(runtime_, p);
  }
  void toKeys(const Tensor& out, C factor, std::initializer_list<Weights> terms) {
    if (!out) return;
    HeadProduct<C, T, T> p{
        heads_, g_.keys, g_.dim, g_.queries, Axes::KeysInnerQueries, true, factor, {out.data<T>(), keyRows_}};
    for (const Weights& term : terms) addTerm(p, term.weights, scores_.transposed(), *term.rows, queryRows_);
    launchProduct(runtime_, p);
  }

  Runtime& runtime_;
  const AttentionGeometry& g_;
  const AttentionOperands& in_;
  const C scale_;
  AttentionHeads heads_;
  HeadMatrix queryRows_, keyRows_, scores_;
};

}  // namespace

void attentionComposed(Runtime& runtime, const AttentionCall& call, const AttentionResults& out) {
  dispatchFloating(call.in.q.dtype(), [&]<class T>() { Composition<T>(runtime, call).forward(out); });
}

void attentionVjpComposed(Runtime& runtime, const AttentionCall& call, const AttentionGradients& out, const Tensor& g,
                          const Tensor& h) {
  dispatchFloating(call.in.q.dtype(), [&]<class T>() { Composition<T>(runtime, call).backward(out, g, h); });
}

}  // namespace flowmap::cuda
