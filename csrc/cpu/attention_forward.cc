// Attention and its tangent. K and V are packed once; then every tile of queries is a task that walks the keys, with an
// online softmax and two accumulators: O, and Σ P∘(T − c) V + Σ P tV, which share one rescaling factor. Subtracting a
// constant c per row from T is exact and keeps the sum small where keys share a large offset.
#include <omp.h>

#include <cmath>
#include <limits>

#include "core/dispatch.h"
#include "cpu/attention_pack.h"
#include "cpu/backend.h"

namespace flowmap::cpu {
namespace {

constexpr int64_t kQueryTile = 96;  // a multiple of every micro-kernel's height
constexpr int64_t kRun = 32;        // terms of O summed before they join the rest
constexpr int64_t kKeyTile = 64;

template <class T>
class Forward {
  using C = Compute<T>;

 public:
  Forward(const AttentionGeometry& g, const AttentionOperands& in, const AttentionResults& out)
      : g_(g),
        in_(in),
        out_(out),
        width_(padded<C>(g.dim)),
        keyTile_(std::min(kKeyTile, padded<C>(std::max<int64_t>(g.keys, 1)))),
        keyTiles_((g.keys + keyTile_ - 1) / keyTile_),
        tangent_(out.to),
        moving_(in.tq || in.tk) {}

  void run() {
    checkKeyLengths(in_.keyLengths, g_.keys);
    const int64_t heads = g_.batch * g_.keyHeads, queryTiles = (g_.queries + kQueryTile - 1) / kQueryTile;
    const int64_t tasks = g_.batch * g_.queryHeads * queryTiles;
    if (tasks == 0) return;
    transposed_ = heads * keyTiles_ * g_.dim * keyTile_;
    const int64_t natural = heads * keyTiles_ * keyTile_ * width_;
    const int64_t threads = omp_get_max_threads();
    const int64_t tile = kQueryTile * (4 * width_ + 2 * keyTile_);
    const int64_t shared = transposed_ * (in_.tk ? 2 : 1) + natural * (in_.tv ? 2 : 1);
    const Tensor workspace = Tensor::empty(in_.q.device(), {shared + threads * tile}, DTypeOf<C>::value);
    workspace.storage()->materialize();
    C* base = workspace.data<C>();
    kT_ = base;
    v_ = kT_ + transposed_;
    tkT_ = in_.tk ? v_ + natural : nullptr;
    tv_ = in_.tv ? v_ + natural + (in_.tk ? transposed_ : 0) : nullptr;
    const bool parallel = g_.batch * g_.queryHeads * g_.queries * g_.keys * g_.dim > 32768;
#pragma omp parallel if (parallel)
    {
      C* scratch = base + shared + omp_get_thread_num() * tile;
#pragma omp for schedule(static)
      for (int64_t i = 0; i < heads * keyTiles_; ++i) pack(i);
#pragma omp for schedule(dynamic, 1)
      for (int64_t task = 0; task < tasks; ++task) {
        // Last tiles first: under a causal mask they are the longest.
        const int64_t head = task / queryTiles, at = queryTiles - 1 - task % queryTiles;
        queryTile(head / g_.queryHeads, head % g_.queryHeads, at * kQueryTile, scratch);
      }
    }
  }

 private:
  void pack(int64_t i) {
    const int64_t head = i / keyTiles_, tile = i % keyTiles_, first = tile * keyTile_;
    const int64_t rows = std::min(keyTile_, g_.keys - first), stride = g_.rowStride(g_.keyHeads);
    const int64_t at = g_.headOffset(head / g_.keyHeads, head % g_.keyHeads, g_.keyHeads, g_.keys) + first * stride;
    packTransposed(in_.k.data<T>() + at, stride, rows, g_.dim, keyTile_, kT_ + i * g_.dim * keyTile_);
    packRows(in_.v.data<T>() + at, stride, rows, g_.dim, v_ + i * keyTile_ * width_);
    if (tkT_) packTransposed(in_.tk.data<T>() + at, stride, rows, g_.dim, keyTile_, tkT_ + i * g_.dim * keyTile_);
    if (tv_) packRows(in_.tv.data<T>() + at, stride, rows, g_.dim, tv_ + i * keyTile_ * width_);
  }

  void queryTile(int64_t b, int64_t h, int64_t first, C* scratch) {
    const int64_t rows = std::min(kQueryTile, g_.queries - first), stride = g_.rowStride(g_.queryHeads);
    const int64_t at = g_.headOffset(b, h, g_.queryHeads, g_.queries) + first * stride;
    C *q = scratch, *tq = q + kQueryTile * width_, *o = tq + kQueryTile * width_, *to = o + kQueryTile * width_;
    C *s = to + kQueryTile * width_, *t = s + kQueryTile * keyTile_;
    packRows(in_.q.data<T>() + at, stride, rows, g_.dim, q);
    if (in_.tq) packRows(in_.tq.data<T>() + at, stride, rows, g_.dim, tq);
    std::fill_n(o, rows * width_, C(0));
    if (tangent_) std::fill_n(to, rows * width_, C(0));
    SoftmaxState<C> states[kQueryTile];
    for (int64_t i = 0; i < rows; ++i) states[i] = {-std::numeric_limits<C>::infinity(), 0, 0, 0, false};

    const int64_t head = b * g_.keyHeads + h / (g_.queryHeads / g_.keyHeads);
    const int64_t length = in_.keyLengths ? in_.keyLengths.data<int32_t>()[b] : g_.keys;
    // Row i sees a prefix of the keys.
    const auto visible = [&](int64_t i) {
      return g_.causal ? std::clamp<int64_t>(first + i + 1 + g_.keys - g_.queries, 0, length) : length;
    };
    const C scale = static_cast<C>(g_.scale);
    for (int64_t j = 0; j < visible(rows - 1); j += keyTile_) {
      const int64_t tile = head * keyTiles_ + j / keyTile_;
      const C *kT = kT_ + tile * g_.dim * keyTile_, *v = v_ + tile * keyTile_ * width_;
      const auto scores = [&](const C* a, const C* right, C* c, bool accumulate) {
        tileProduct(TileProduct<C>{rows, keyTile_, g_.dim, a, width_, 1, right, keyTile_, c, keyTile_, accumulate});
      };
      scores(q, kT, s, false);
      if (in_.tq) scores(tq, kT, t, false);
      if (tkT_) scores(q, tkT_ + tile * g_.dim * keyTile_, t, static_cast<bool>(in_.tq));
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t valid = std::min(keyTile_, visible(i) - j);
        const C factor =
            softmaxTileRow(keyTile_, valid, scale, s + i * keyTile_, moving_ ? t + i * keyTile_ : nullptr, states[i]);
        if (factor != C(1)) {
          for (int64_t p = 0; p < width_; ++p) o[i * width_ + p] *= factor;
          if (tangent_) {
            for (int64_t p = 0; p < width_; ++p) to[i * width_ + p] *= factor;
          }
        }
      }
      const int64_t keys = std::min(keyTile_, length - j);  // what lies beyond is never read
      const auto weighted = [&](const C* weights, const C* right, C* c, int64_t count) {
        tileProduct(TileProduct<C>{rows, width_, count, weights, keyTile_, 1, right, width_, c, width_, true});
      };
      // The backward pass takes O from terms nearly as large: it is summed in shorter runs than the rest.
      for (int64_t from = 0; from < keys; from += kRun)
        weighted(s + from, v + from * width_, o, std::min(kRun, keys - from));
      if (moving_) weighted(t, v, to, keys);
      if (tv_) weighted(s, tv_ + tile * keyTile_ * width_, to, keys);
    }
    store(b, h, first, rows, at, stride, states, o, to);
  }

  void store(int64_t b, int64_t h, int64_t first, int64_t rows, int64_t at, int64_t stride,
             const SoftmaxState<C>* states, const C* o, const C* to) {
    const int64_t row0 = (b * g_.queryHeads + h) * g_.queries + first;
    for (int64_t i = 0; i < rows; ++i) {
      const SoftmaxState<C>& state = states[i];
      const C inverse = state.started ? C(1) / state.sum : C(0);  // a NaN stays one
      const C mean = state.moment * inverse;
      T* y = out_.o.data<T>() + at + i * stride;
      for (int64_t p = 0; p < g_.dim; ++p) y[p] = static_cast<T>(o[i * width_ + p] * inverse);
      out_.lse.data<C>()[row0 + i] =
          state.started ? state.top + std::log(state.sum) : std::numeric_limits<C>::infinity();
      if (!tangent_) continue;
      T* ty = out_.to.data<T>() + at + i * stride;
      for (int64_t p = 0; p < g_.dim; ++p) {
        ty[p] = static_cast<T>(to[i * width_ + p] * inverse - mean * (o[i * width_ + p] * inverse));
      }
      out_.mu.data<C>()[row0 + i] = state.shift + mean;
    }
  }

  const AttentionGeometry& g_;
  const AttentionOperands& in_;
  const AttentionResults& out_;
  const int64_t width_, keyTile_, keyTiles_;
  const bool tangent_, moving_;
  int64_t transposed_ = 0;
  C *kT_ = nullptr, *tkT_ = nullptr, *v_ = nullptr, *tv_ = nullptr;
};

}  // namespace

void CpuBackend::attention(const AttentionGeometry& geometry, const AttentionResults& out,
                           const AttentionOperands& in) {
  refuseNewOptions(geometry);
  dispatchFloating(in.q.dtype(), [&]<class T>() { Forward<T>(geometry, in, out).run(); });
}

}  // namespace flowmap::cpu
