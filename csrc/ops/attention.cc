#include "ops/attention.h"

#include <array>
#include <limits>

#include "core/attention_args.h"
#include "core/check.h"
#include "core/launch.h"

namespace flowmap::ops {
namespace {

constexpr int64_t kMaxDim = 256;
constexpr int64_t kMostTokens = std::numeric_limits<int32_t>::max();  // lengths and offsets are int32

AttentionOperands operandsOf(const char* op, const std::array<Tensor, 6>& values, const OptionalTensors& weights,
                             const OptionalTensors& sequences) {
  if (weights.size() != 2) fail(ErrorCode::Argument, op, "weights must be 2 tensors or nulls, got ", weights.size());
  if (sequences.size() != 3) {
    fail(ErrorCode::Argument, op, "sequences must be 3 tensors or nulls, got ", sequences.size());
  }
  const auto& [q, k, v, tq, tk, tv] = values;
  return {q, k, v, tq, tk, tv, sequences[0], sequences[1], sequences[2], weights[0], weights[1]};
}

void checkCounts(const char* op, const char* argument, const Tensor& counts, const Tensor& q, int64_t size) {
  checkDevice(op, argument, counts, q.device());
  checkDType(op, argument, counts, DType::Int32);
  checkShape(op, argument, counts, {size});
}

void checkOffsets(const char* op, const AttentionOperands& in, AttentionGeometry& g) {
  if (!in.queryOffsets || !in.keyOffsets) {
    fail(ErrorCode::Argument, op, "queryOffsets and keyOffsets must both be given for packed sequences, got ",
         in.queryOffsets ? "queryOffsets alone" : (in.keyOffsets ? "keyOffsets alone" : "neither"));
  }
  if (in.keyLengths) {
    fail(ErrorCode::Argument, op,
         "keyLengths must be absent for packed sequences, whose offsets say how long they are");
  }
  checkRank(op, "queryOffsets", in.queryOffsets, 1);
  const int64_t size = in.queryOffsets.shape()[0];
  if (size < 1) fail(ErrorCode::Shape, op, "queryOffsets must have at least one element, got none");
  checkCounts(op, "queryOffsets", in.queryOffsets, in.q, size);
  checkCounts(op, "keyOffsets", in.keyOffsets, in.q, size);
  if (size - 1 > kMostTokens) {
    fail(ErrorCode::Shape, op, "queryOffsets must be of at most ", kMostTokens, " sequences, got ", size - 1);
  }
  g.sequences = size - 1;
}

void checkNorm(const char* op, const AttentionOperands& in, AttentionGeometry& g, bool normalize, double eps) {
  for (const auto& [argument, weight] :
       {std::pair<const char*, Tensor>{"qWeight", in.qWeight}, {"kWeight", in.kWeight}}) {
    if (!weight) continue;
    if (!normalize) fail(ErrorCode::Argument, op, argument, " must be absent without QKNorm");
    checkLike(op, argument, weight, in.q);
    checkShape(op, argument, weight, {g.dim});
  }
  if (normalize) checkPositive(op, "eps", eps);
  g.normalize = normalize;
  g.eps = eps;
}

AttentionGeometry checkAttention(const char* op, const AttentionOperands& in, const std::string& layout, bool causal,
                                 double scale, bool normalize, double eps, bool centerKeys) {
  const bool packed = layout == "SHD";
  if (!packed && layout != "BHSD" && layout != "BSHD") {
    fail(ErrorCode::Argument, op, "layout must be 'BHSD' or 'BSHD', got '", layout, "'");
  }
  const int rank = packed ? 3 : 4;
  checkFloating(op, "q", in.q);
  checkRank(op, "q", in.q, rank);
  checkLike(op, "k", in.k, in.q);
  checkRank(op, "k", in.k, rank);
  checkSame(op, "v", in.v, in.k);
  checkFinite(op, "scale", scale);
  AttentionGeometry g;
  g.packed = packed;
  g.headsInner = layout != "BHSD";
  const int heads = packed ? 1 : (g.headsInner ? 2 : 1), tokens = packed ? 0 : (g.headsInner ? 1 : 2);
  const Shape &q = in.q.shape(), &k = in.k.shape();
  g.batch = packed ? 1 : q[0];
  g.queryHeads = q[heads];
  g.queries = q[tokens];
  g.dim = q[rank - 1];
  g.keyHeads = k[heads];
  g.keys = k[tokens];
  g.causal = causal;
  g.scale = scale;
  g.centerKeys = centerKeys;
  if ((!packed && k[0] != g.batch) || k[rank - 1] != g.dim) {
    fail(ErrorCode::Shape, op, "k must have the ", packed ? "" : "batch and ", "head size of q ", q, ", got ", k,
         " (layout ", layout, ")");
  }
  if (g.dim < 1 || g.dim > kMaxDim) {
    fail(ErrorCode::Shape, op, "q must have a head size in [1, ", kMaxDim, "], got ", g.dim);
  }
  if (g.keyHeads == 0 ? g.queryHeads != 0 : g.queryHeads % g.keyHeads != 0) {
    fail(ErrorCode::Shape, op, "q must have a multiple of k's ", g.keyHeads, " heads, got ", g.queryHeads, " (layout ",
         layout, ")");
  }
  if (g.queries > kMostTokens || g.keys > kMostTokens) {
    fail(ErrorCode::Shape, op, "q and k must have at most ", kMostTokens, " tokens, got ", g.queries, " and ", g.keys);
  }
  checkSame(op, "tq", in.tq, in.q);
  checkSame(op, "tk", in.tk, in.k);
  checkSame(op, "tv", in.tv, in.k);
  if (packed) {
    checkOffsets(op, in, g);
  } else {
    if (in.queryOffsets || in.keyOffsets) {
      fail(ErrorCode::Argument, op, in.queryOffsets ? "queryOffsets" : "keyOffsets",
           " must be absent but for packed sequences (layout 'SHD'), got layout '", layout, "'");
    }
    if (in.keyLengths) checkCounts(op, "keyLengths", in.keyLengths, in.q, g.batch);
  }
  checkNorm(op, in, g, normalize, eps);
  return g;
}

Shape rowShape(const AttentionGeometry& g) {
  if (g.packed) return {g.queryHeads, g.queries};
  return {g.batch, g.queryHeads, g.queries};
}

Tensor rowScalars(const AttentionGeometry& g, const Tensor& q) {
  return Tensor::empty(q.device(), rowShape(g), statisticsDType(q.dtype()));
}

void launchForward(const char* op, const AttentionGeometry& g, const AttentionOperands& in,
                   const AttentionResults& out) {
  launch(op, in.q.device(), {out.o, out.lse, out.to, out.mu},
         {in.q, in.k, in.v, in.tq, in.tk, in.tv, in.keyLengths, in.queryOffsets, in.keyOffsets, in.qWeight, in.kWeight},
         [=](Backend& backend) { backend.attention(g, out, in); });
}

}  // namespace

std::tuple<Tensor, Tensor> attention(const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensors& weights,
                                     const OptionalTensors& sequences, const std::string& layout, bool causal,
                                     double scale, bool normalize, double eps, bool centerKeys) {
  const char* op = "attention";
  const AttentionOperands in = operandsOf(op, {q, k, v}, weights, sequences);
  const AttentionGeometry g = checkAttention(op, in, layout, causal, scale, normalize, eps, centerKeys);
  const AttentionResults out{Tensor::emptyLike(q), rowScalars(g, q), {}, {}};
  launchForward(op, g, in, out);
  return {out.o, out.lse};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> attentionJvp(const Tensor& q, const Tensor& k, const Tensor& v,
                                                        const OptionalTensor& tq, const OptionalTensor& tk,
                                                        const OptionalTensor& tv, const OptionalTensors& weights,
                                                        const OptionalTensors& sequences, const std::string& layout,
                                                        bool causal, double scale, bool normalize, double eps,
                                                        bool centerKeys) {
  const char* op = "attentionJvp";
  const AttentionOperands in = operandsOf(op, {q, k, v, tq, tk, tv}, weights, sequences);
  const AttentionGeometry g = checkAttention(op, in, layout, causal, scale, normalize, eps, centerKeys);
  const AttentionResults out{Tensor::emptyLike(q), rowScalars(g, q), Tensor::emptyLike(q), rowScalars(g, q)};
  launchForward(op, g, in, out);
  return {out.o, out.to, out.lse, out.mu};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> attentionJvpVjp(
    const Tensor& q, const Tensor& k, const Tensor& v, const OptionalTensor& tq, const OptionalTensor& tk,
    const OptionalTensor& tv, const Tensor& o, const OptionalTensor& to, const Tensor& lse, const OptionalTensor& mu,
    const OptionalTensor& g, const OptionalTensor& h, const OptionalTensors& weights, const OptionalTensors& sequences,
    const std::string& layout, bool causal, double scale, bool normalize, double eps, bool centerKeys,
    bool deterministic, const std::vector<int64_t>& needs) {
  const char* op = "attentionJvpVjp";
  const AttentionOperands in = operandsOf(op, {q, k, v, tq, tk, tv}, weights, sequences);
  AttentionGeometry geometry = checkAttention(op, in, layout, causal, scale, normalize, eps, centerKeys);
  geometry.deterministic = deterministic;
  checkSame(op, "o", o, q);
  checkSame(op, "to", to, q);
  checkSame(op, "g", g, q);
  checkSame(op, "h", h, q);
  if (!g && !h) fail(ErrorCode::Argument, op, "at least one of g and h must be given");
  if ((tq || tk || tv) && h && (!to || !mu)) {
    fail(ErrorCode::Argument, op, "to and mu must be given where there are tangents and a cotangent h");
  }
  for (const auto& [argument, t] : {std::pair<const char*, Tensor>{"lse", lse}, {"mu", mu}}) {
    if (!t) continue;
    checkDevice(op, argument, t, q.device());
    checkDType(op, argument, t, statisticsDType(q.dtype()));
    checkShape(op, argument, t, rowShape(geometry));
  }
  if (needs.size() != 8) fail(ErrorCode::Argument, op, "needs must be 8 flags, got ", needs.size());
  const auto like = [&](size_t i, const Tensor& x) { return x && needs[i] ? Tensor::emptyLike(x) : Tensor(); };
  const AttentionGradients out{like(0, q), like(1, k), like(2, v),          like(3, q),
                               like(4, k), like(5, v), like(6, in.qWeight), like(7, in.kWeight)};
  const AttentionResults saved{o, lse, to, mu};
  launch(op, q.device(), {out.gq, out.gk, out.gv, out.gtq, out.gtk, out.gtv, out.gqWeight, out.gkWeight},
         {q, k, v, tq, tk, tv, in.keyLengths, in.queryOffsets, in.keyOffsets, in.qWeight, in.kWeight, o, to, lse, mu, g,
          h},
         [=, g = Tensor(g), h = Tensor(h)](Backend& backend) { backend.attentionVjp(geometry, out, in, saved, g, h); });
  return {out.gq, out.gk, out.gv, out.gtq, out.gtk, out.gtv, out.gqWeight, out.gkWeight};
}

}  // namespace flowmap::ops
