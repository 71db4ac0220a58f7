// Attention and its tangent. K and V are packed once; then every tile of queries is a task that walks the keys of its
// sequence, with an online softmax and two accumulators: O, and Σ P∘(T − c) V + Σ P tV, which share one rescaling
// factor. Subtracting a constant c per row from T is exact and keeps the sum small where keys share a large offset. A
// task's results depend on its sequence alone.
#include <cmath>
#include <limits>

#include "core/dispatch.h"
#include "cpu/attention_arithmetic.h"
#include "cpu/attention_norm.h"
#include "cpu/attention_pack.h"
#include "cpu/attention_sequences.h"
#include "cpu/attention_short.h"
#include "cpu/backend.h"
#include "cpu/parallel.h"

namespace flowmap::cpu {
namespace {

template <class T, class Tiles>
class Forward {
  using C = typename Tiles::C;
  using E = typename Tiles::E;
  static constexpr int64_t kQueryTile = Tiles::kForwardQueries;
  static constexpr int64_t kKeptHeads = 16;  // as many as keep threads busy

 public:
  Forward(const AttentionGeometry& g, const AttentionOperands& in, const AttentionResults& out)
      : g_(g),
        in_(in),
        out_(out),
        width_(padded<C>(g.dim)),
        leftWidth_(padded<E>(g.dim)),
        depth_(Tiles::depth(g.dim)),
        group_(g.queryHeads / std::max<int64_t>(1, g.keyHeads)),
        tangent_(out.to),
        moving_(in.tq || in.tk),
        rewritten_(g.normalize || g.centerKeys),
        queryNorm_(g, in.qWeight),
        keyNorm_(g, in.kWeight),
        sequences_(attentionSequences(g, in, Tiles::kForwardKeys, padded<C>(1), AttentionOrder::Keys)) {}

  void run() {
    const SequenceItems queryTiles(sequences_, [&](size_t i) { return g_.queryHeads * tilesOf(sequences_[i]); });
    const SequenceItems keyTiles(sequences_, [&](size_t i) { return g_.keyHeads * sequences_[i].keyTiles; });
    if (queryTiles.size() == 0) return;
    int64_t packedKeys = 0, keyTile = 0, pairs = 0, most = 0, room = 0;
    for (const AttentionSequence& s : sequences_) {
      if (isShort(s)) room = std::max(room, shortForwardRoom(s.queries, s.keys, g_.dim));
      packedKeys += s.packedKeys();
      most = std::max(most, s.packedKeys());
      keyTile = std::max(keyTile, s.keyTile);
      pairs += s.pairs();
    }
    const int64_t heads = static_cast<int64_t>(sequences_.size()) * g_.keyHeads, threads = teamSize();
    // Small heads are packed and walked one by one, in memory of the thread's own.
    const int64_t ofKey = depth_ * (in_.tk ? 2 : 1) + width_ * (in_.tv ? 2 : 1);
    const bool kept = heads >= kKeptHeads && most * ofKey * static_cast<int64_t>(sizeof(E)) <= kKeptBytes;
    if (kept) keptKeys_ = most;
    const int64_t keys = kept ? threads * most : g_.keyHeads * packedKeys;
    const int64_t transposed = keys * depth_, natural = keys * width_;
    const int64_t means = g_.centerKeys ? heads * 2 * width_ : 0;
    const int64_t left = roomFor<C, E>(kQueryTile * leftWidth_);
    const int64_t weights = Tiles::kRounded ? roomFor<C, E>(kQueryTile * keyTile) : 0;
    const int64_t tile = std::max(room, 2 * left + kQueryTile * (2 * width_ + 2 * keyTile) + 2 * weights);
    const int64_t packed = roomFor<C, E>(keys * ofKey);
    const int64_t shared = packed + means;
    const Tensor workspace = Tensor::empty(in_.q.device(), {shared + threads * tile}, DTypeOf<C>::value);
    workspace.storage()->materialize();
    C* base = workspace.data<C>();
    kT_ = reinterpret_cast<E*>(base);
    v_ = kT_ + transposed;
    tkT_ = in_.tk ? v_ + natural : nullptr;
    tv_ = in_.tv ? v_ + natural + (in_.tk ? transposed : 0) : nullptr;
    means_ = base + shared - means;
    const bool parallel = g_.queryHeads * pairs * g_.dim > 32768;
    const auto scratch = [&] { return base + shared + teamThread() * tile; };
    const auto findMeans = [&](int64_t i) {
      if (g_.centerKeys) mean(sequences_[i / g_.keyHeads], i % g_.keyHeads, meansOf(i), scratch());
    };
    const auto packTile = [&](int64_t sequence, int64_t head, int64_t at) {
      if (isShort(sequences_[sequence])) return;
      pack(sequences_[sequence], head, at, meansOf(sequence * g_.keyHeads + head), scratch());
    };
    const auto walk = [&](const AttentionSequence& s, int64_t head, int64_t at) {
      if constexpr (kHasShort) {
        if (isShort(s)) return shortHead(s, head, scratch());
      }
      queryTile(s, head, at * kQueryTile, Scratch(scratch(), left, kQueryTile * width_, kQueryTile * keyTile));
    };
    if (kept) {
      parallelTasks(heads, parallel, [&](int64_t i) {
        const int64_t sequence = i / g_.keyHeads, head = i % g_.keyHeads;
        const AttentionSequence& s = sequences_[sequence];
        findMeans(i);
        for (int64_t at = 0; at < s.keyTiles; ++at) packTile(sequence, head, at);
        for (int64_t of = head * group_; of < (head + 1) * group_; ++of) {
          for (int64_t at = 0; at < tilesOf(s); ++at) walk(s, of, at);
        }
      });
      return;
    }
    parallelTasks(heads, parallel, findMeans);
    parallelFor(keyTiles.size(), parallel, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const auto [sequence, index] = keyTiles[i];
        const int64_t tiles = sequences_[sequence].keyTiles;
        packTile(sequence, index / tiles, index % tiles);
      }
    });
    parallelTasks(queryTiles.size(), parallel, [&](int64_t task) {
      const auto [sequence, index] = queryTiles[task];
      const AttentionSequence& s = sequences_[sequence];
      // Last tiles first: under a causal mask they are the longest.
      const int64_t tiles = tilesOf(s);
      walk(s, index / tiles, tiles - 1 - index % tiles);
    });
  }

 private:
  static constexpr bool kHasShort = std::is_same_v<T, float>;
  static int64_t tilesOf(const AttentionSequence& s) { return (s.queries + kQueryTile - 1) / kQueryTile; }

  bool isShort(const AttentionSequence& s) const { return kHasShort && cpu::isShort(g_, s); }

  void shortHead(const AttentionSequence& s, int64_t h, float* scratch) const {
    int64_t visible[kShortQueries];
    const ShortHead head = shortHeadOf(g_, in_, s, h, h / group_, visible);
    const int64_t queries = s.queryOffset(g_, h), scalars = s.scalarOffset(g_, h);
    shortForward({head, rowsFrom(out_.o, queries), rowsFrom(out_.lse, scalars), rowsFrom(out_.to, queries),
                  rowsFrom(out_.mu, scalars)},
                 scratch);
  }

  C* meansOf(int64_t head) const { return means_ + head * 2 * width_; }

  void mean(const AttentionSequence& s, int64_t head, C* to, C* scratch) {
    const int64_t at = s.keyOffset(g_, head);
    const T* tk = in_.tk ? in_.tk.data<T>() + at : nullptr;
    keyMeans(keyNorm_, in_.k.data<T>() + at, tk, g_.rowStride(g_.keyHeads), s.length, g_.dim, to, to + width_, scratch);
    Tiles::roundMean(to, g_.dim);
    if (tk) Tiles::roundMean(to + width_, g_.dim);
  }

  // A head's packed keys, as keys of all heads and sequences count.
  int64_t packedKey(const AttentionSequence& s, int64_t head) const {
    if (keptKeys_ > 0) return teamThread() * keptKeys_;
    return g_.keyHeads * s.packedKey + head * s.packedKeys();
  }

  void pack(const AttentionSequence& s, int64_t head, int64_t tile, const C* means, C* scratch) {
    const int64_t first = tile * s.keyTile, rows = std::min(s.keyTile, s.keys - first);
    const int64_t stride = g_.rowStride(g_.keyHeads), at = s.keyOffset(g_, head) + first * stride;
    const int64_t to = packedKey(s, head) + first;
    const auto transpose = [&](const auto* source, int64_t rowStride, E* target) {
      Tiles::packTransposed(source, rowStride, rows, g_.dim, s.keyTile, target + to * depth_);
    };
    if (rewritten_) {
      C *k = scratch, *tk = k + s.keyTile * width_;
      keyNorm_.load(in_.k.data<T>() + at, tkT_ ? in_.tk.data<T>() + at : nullptr, stride, rows, k, tk);
      if (g_.centerKeys) subtractRows(k, means, rows, g_.dim);
      if (g_.centerKeys && tkT_) subtractRows(tk, means + width_, rows, g_.dim);
      transpose(k, width_, kT_);
      if (tkT_) transpose(tk, width_, tkT_);
    } else {
      transpose(in_.k.data<T>() + at, stride, kT_);
      if (tkT_) transpose(in_.tk.data<T>() + at, stride, tkT_);
    }
    // A key that does not count may hold anything, and be the other half of a pair.
    const int64_t counting = std::clamp<int64_t>(s.length - first, 0, rows);
    Tiles::packNatural(in_.v.data<T>() + at, stride, counting, g_.dim, v_ + to * width_);
    if (tv_) Tiles::packNatural(in_.tv.data<T>() + at, stride, counting, g_.dim, tv_ + to * width_);
  }

  // A thread's tiles: operands, sums, scores, and weights as operands, which are the scores themselves unless rounded.
  struct Scratch {
    E *q, *tq;
    C *o, *to, *s, *t;
    E *p, *tp;
    Scratch(C* at, int64_t left, int64_t sums, int64_t scores) {
      q = reinterpret_cast<E*>(at);
      tq = reinterpret_cast<E*>(at + left);
      o = at + 2 * left;
      to = o + sums;
      s = to + sums;
      t = s + scores;
      if constexpr (Tiles::kRounded) {
        p = reinterpret_cast<E*>(t + scores);
        tp = p + scores;
      } else {
        p = s;
        tp = t;
      }
    }
  };

  void queryTile(const AttentionSequence& sequence, int64_t h, int64_t first, const Scratch& scratch) {
    const int64_t rows = std::min(kQueryTile, sequence.queries - first), stride = g_.rowStride(g_.queryHeads);
    const int64_t at = sequence.queryOffset(g_, h) + first * stride, keyTile = sequence.keyTile;
    const auto [q, tq, o, to, s, t, p, tp] = scratch;
    Tiles::load(queryNorm_, in_.q.data<T>() + at, in_.tq ? in_.tq.data<T>() + at : nullptr, stride, rows, g_.dim, q, tq,
                o);
    std::fill_n(o, rows * width_, C(0));
    if (tangent_) std::fill_n(to, rows * width_, C(0));
    static_assert(kQueryTile <= SoftmaxState<C>::kMostRows);
    SoftmaxState<C> state;
    startSoftmax(rows, state);
    int64_t valid[kQueryTile];

    const int64_t packed = packedKey(sequence, h / group_);
    const auto visible = [&](int64_t i) { return sequence.visible(g_, first + i); };
    const C scale = static_cast<C>(g_.scale);
    for (int64_t j = 0; j < visible(rows - 1); j += keyTile) {
      const E *kT = kT_ + (packed + j) * depth_, *v = v_ + (packed + j) * width_;
      const auto scores = [&](const E* a, const E* right, C* c, bool accumulate) {
        Tiles::product(rows, keyTile, g_.dim, Tiles::alongRows(a, leftWidth_), right, c, accumulate);
      };
      scores(q, kT, s, false);
      if (in_.tq) scores(tq, kT, t, false);
      if (tkT_) scores(q, tkT_ + (packed + j) * depth_, t, static_cast<bool>(in_.tq));
      for (int64_t i = 0; i < rows; ++i) valid[i] = std::min(keyTile, visible(i) - j);
      Tiles::softmax({rows, keyTile, valid, scale, s, moving_ ? t : nullptr}, state);
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t row = i * keyTile;
        rescale(state.factor[i], state.moved[i], o + i * width_, to + i * width_);
        if constexpr (Tiles::kRounded) {
          roundRow(keyTile, 1, s + row, p + row);
          if (moving_) roundRow(keyTile, 1, t + row, tp + row);
        }
      }
      const int64_t keys = std::min(keyTile, sequence.length - j);  // what lies beyond is never read
      const auto weighted = [&](const E* weights, const E* right, C* c, int64_t count) {
        Tiles::product(rows, width_, count, Tiles::alongRows(weights, keyTile), right, c, true);
      };
      // The backward pass takes O from terms nearly as large: it is summed in shorter runs than the rest.
      for (int64_t from = 0; from < keys; from += Tiles::kRun)
        weighted(p + from, v + from * width_, o, std::min(Tiles::kRun, keys - from));
      if (moving_) weighted(tp, v, to, keys);
      if (tv_) weighted(p, tv_ + (packed + j) * width_, to, keys);
    }
    store(sequence.scalarOffset(g_, h) + first, rows, at, stride, state, o, to);
  }

  // A row's sums, before more joins them.
  void rescale(C factor, C moved, C* o, C* to) const {
    if (factor != C(1)) {
      for (int64_t p = 0; p < width_; ++p) o[p] *= factor;
      if (tangent_) {
        for (int64_t p = 0; p < width_; ++p) to[p] *= factor;
      }
    }
    if (Tiles::kRounded && moving_ && moved != C(0)) {
      for (int64_t p = 0; p < width_; ++p) to[p] -= moved * o[p];
    }
  }

  void store(int64_t row0, int64_t rows, int64_t at, int64_t stride, const SoftmaxState<C>& state, const C* o, C* to) {
    for (int64_t i = 0; i < rows; ++i) {
      const bool started = state.started[i] != C(0);
      const C inverse = started ? C(1) / state.sum[i] : C(0);  // a NaN stays one
      const C mean = state.moment[i] * inverse;
      T* y = out_.o.data<T>() + at + i * stride;
      Tiles::unpackRow(o + i * width_, inverse, g_.dim, y);
      out_.lse.data<C>()[row0 + i] =
          started ? state.top[i] + std::log(state.sum[i]) : std::numeric_limits<C>::infinity();
      if (!tangent_) continue;
      T* ty = out_.to.data<T>() + at + i * stride;
      C* row = to + i * width_;
      for (int64_t p = 0; p < g_.dim; ++p) row[p] = row[p] * inverse - mean * (o[i * width_ + p] * inverse);
      Tiles::unpackRow(row, C(1), g_.dim, ty);
      out_.mu.data<C>()[row0 + i] = state.shift[i] + mean;
    }
  }

  const AttentionGeometry& g_;
  const AttentionOperands& in_;
  const AttentionResults& out_;
  const int64_t width_, leftWidth_, depth_, group_;  // of rows of sums, of left operands; of transposed operands
  const bool tangent_, moving_;
  const bool rewritten_;  // keys are not packed as they are
  const HeadNorm<T> queryNorm_, keyNorm_;
  const std::vector<AttentionSequence> sequences_;
  E *kT_ = nullptr, *tkT_ = nullptr, *v_ = nullptr, *tv_ = nullptr;
  C* means_ = nullptr;
  int64_t keptKeys_ = 0;  // room of a thread, where heads are kept in its cache
};

}  // namespace

void CpuBackend::attention(const AttentionGeometry& geometry, const AttentionResults& out,
                           const AttentionOperands& in) {
  dispatchFloating(in.q.dtype(), [&]<class T>() {
    withTiles<T>([&]<class Tiles>(Tiles) { Forward<T, Tiles>(geometry, in, out).run(); });
  });
}

}  // namespace flowmap::cpu
