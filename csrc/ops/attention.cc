#include "ops/attention.h"

#include "core/attention_args.h"
#include "core/check.h"
#include "core/launch.h"

namespace flowmap::ops {
namespace {

constexpr int64_t kMaxDim = 256;

AttentionGeometry checkAttention(const char* op, const AttentionOperands& in, const std::string& layout, bool causal,
                                 double scale) {
  checkFloating(op, "q", in.q);
  checkRank(op, "q", in.q, 4);
  checkLike(op, "k", in.k, in.q);
  checkRank(op, "k", in.k, 4);
  checkSame(op, "v", in.v, in.k);
  if (layout != "BHSD" && layout != "BSHD") {
    fail(ErrorCode::Argument, op, "layout must be 'BHSD' or 'BSHD', got '", layout, "'");
  }
  checkFinite(op, "scale", scale);
  AttentionGeometry g;
  g.headsInner = layout == "BSHD";
  const int heads = g.headsInner ? 2 : 1, tokens = g.headsInner ? 1 : 2;
  const Shape &q = in.q.shape(), &k = in.k.shape();
  g.batch = q[0];
  g.queryHeads = q[heads];
  g.queries = q[tokens];
  g.dim = q[3];
  g.keyHeads = k[heads];
  g.keys = k[tokens];
  g.causal = causal;
  g.scale = scale;
  if (k[0] != g.batch || k[3] != g.dim) {
    fail(ErrorCode::Shape, op, "k must have the batch and head size of q ", q, ", got ", k, " (layout ", layout, ")");
  }
  if (g.dim < 1 || g.dim > kMaxDim) {
    fail(ErrorCode::Shape, op, "q must have a head size in [1, ", kMaxDim, "], got ", g.dim);
  }
  if (g.keyHeads == 0 ? g.queryHeads != 0 : g.queryHeads % g.keyHeads != 0) {
    fail(ErrorCode::Shape, op, "q must have a multiple of k's ", g.keyHeads, " heads, got ", g.queryHeads, " (layout ",
         layout, ")");
  }
  checkSame(op, "tq", in.tq, in.q);
  checkSame(op, "tk", in.tk, in.k);
  checkSame(op, "tv", in.tv, in.k);
  if (in.keyLengths) {
    checkDevice(op, "keyLengths", in.keyLengths, in.q.device());
    checkDType(op, "keyLengths", in.keyLengths, DType::Int32);
    checkShape(op, "keyLengths", in.keyLengths, {g.batch});
  }
  return g;
}

Tensor rowScalars(const AttentionGeometry& g, const Tensor& q) {
  return Tensor::empty(q.device(), {g.batch, g.queryHeads, g.queries}, statisticsDType(q.dtype()));
}

void launchForward(const char* op, const AttentionGeometry& g, const AttentionOperands& in,
                   const AttentionResults& out) {
  launch(op, in.q.device(), {out.o, out.lse, out.to, out.mu}, {in.q, in.k, in.v, in.tq, in.tk, in.tv, in.keyLengths},
         [=](Backend& backend) { backend.attention(g, out, in); });
}

}  // namespace

std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                     const OptionalTensor& keyLengths, const std::string& layout, bool causal,
                                     double scale) {
  const AttentionOperands in{q, k, v, {}, {}, {}, keyLengths};
  const AttentionGeometry g = checkAttention("attention", in, layout, causal, scale);
  const AttentionResults out{Tensor::emptyLike(q), rowScalars(g, q), {}, {}};
  launchForward("attention", g, in, out);
  return {out.o, out.lse};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attentionJvp(const Tensor& q, const Tensor& k, const Tensor& v,
                                                        const OptionalTensor& tq, const OptionalTensor& tk,
                                                        const OptionalTensor& tv, const OptionalTensor& keyLengths,
                                                        const std::string& layout, bool causal, double scale) {
  const AttentionOperands in{q, k, v, tq, tk, tv, keyLengths};
  const AttentionGeometry g = checkAttention("attentionJvp", in, layout, causal, scale);
  const AttentionResults out{Tensor::emptyLike(q), rowScalars(g, q), Tensor::emptyLike(q), rowScalars(g, q)};
  launchForward("attentionJvp", g, in, out);
  return {out.o, out.to, out.lse, out.mu};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> attentionJvpVjp(
    const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& tq, const OptionalTensor& tk,
    const OptionalTensor& tv, const Tensor& o, const OptionalTensor& to, const Tensor& lse, const OptionalTensor& mu,
    const OptionalTensor& g, const OptionalTensor& h, const OptionalTensor& keyLengths, const std::string& layout,
    bool causal, double scale, const std::vector<int64_t>& needs) {
  const char* op = "attentionJvpVjp";
  const AttentionOperands in{q, k, v, tq, tk, tv, keyLengths};
  const AttentionGeometry geometry = checkAttention(op, in, layout, causal, scale);
  checkSame(op, "o", o, q);
  checkSame(op, "to", to, q);
  checkSame(op, "g", g, q);
  checkSame(op, "h", h, q);
  if (!g && !h) fail(ErrorCode::Argument, op, "at least one of g and h must be given");
  if ((tq || tk || tv) && h && (!to || !mu)) {
    fail(ErrorCode::Argument, op, "to and mu must be given where there are tangents and a cotangent h");
  }
  const Shape scalars{geometry.batch, geometry.queryHeads, geometry.queries};
  for (const auto& [argument, t] : {std::pair<const char*, Tensor>{"lse", lse}, {"mu", mu}}) {
    if (!t) continue;
    checkDevice(op, argument, t, q.device());
    checkDType(op, argument, t, statisticsDType(q.dtype()));
    checkShape(op, argument, t, scalars);
  }
  if (needs.size() != 6) fail(ErrorCode::Argument, op, "needs must be 6 flags, got ", needs.size());
  const auto like = [&](size_t i, const Tensor& x) { return needs[i] ? Tensor::emptyLike(x) : Tensor(); };
  const AttentionGradients out{like(0, q), like(1, k), like(2, v), like(3, q), like(4, k), like(5, v)};
  const AttentionResults saved{o, lse, to, mu};
  launch(op, q.device(), {out.gq, out.gk, out.gv, out.gtq, out.gtk, out.gtv},
         {q, k, v, tq, tk, tv, keyLengths, o, to, lse, mu, g, h},
         [=, g = Tensor(g), h = Tensor(h)](Backend& backend) { backend.attentionVjp(geometry, out, in, saved, g, h); });
  return {out.gq, out.gk, out.gv, out.gtq, out.gtk, out.gtv};
}

}  // namespace flowmap::ops
