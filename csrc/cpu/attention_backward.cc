// The backward pass of attention and its tangent, in one walk over the tiles: fifteen products with everything, five
// for plain attention. A task owns a key head and a range of its queries: the queries' gradients are its own, the keys'
// it sums in rows of its own, added up in a fixed order where a head has several tasks. The split depends on shapes and
// on the lengths of sequences, never on the number of threads, and so do the results.
#include <cmath>
#include <limits>

#include "core/dispatch.h"
#include "cpu/attention_arithmetic.h"
#include "cpu/attention_backward_scratch.h"
#include "cpu/attention_norm.h"
#include "cpu/attention_pack.h"
#include "cpu/attention_sequences.h"
#include "cpu/attention_short.h"
#include "cpu/backend.h"
#include "cpu/parallel.h"

namespace flowmap::cpu {
namespace {

// What takes more than this part of all work is split by queries; a smaller part, for threads to share more evenly,
// where the sums that each part of a head has for itself are few.
constexpr int64_t kTasks = 8, kSmallTasks = 16, kSmallSums = 64 << 20;

template <class T, class Tiles>
class Backward {
  using C = typename Tiles::C;
  using E = typename Tiles::E;
  static constexpr int64_t kQueryTile = Tiles::kBackwardQueries;
  using Scratch = BackwardScratch<Tiles>;
  using Operand = typename Scratch::Operand;
  using Weights = typename Scratch::Weights;

 public:
  Backward(const AttentionGeometry& g, const AttentionOperands& in, const AttentionResults& saved,
           const AttentionGradients& out, const Tensor& cotangent, const Tensor& tangentCotangent)
      : g_(g),
        in_(in),
        saved_(saved),
        out_(out),
        g0_(cotangent),
        h_(tangentCotangent),
        width_(padded<C>(g.dim)),
        leftWidth_(padded<E>(g.dim)),
        depth_(Tiles::depth(g.dim)),
        group_(g.queryHeads / std::max<int64_t>(1, g.keyHeads)),
        second_(tangentCotangent),
        moving_(second_ && (in.tq || in.tk)),
        queries_(wanted(out.gq, out.gtq, out.gqWeight, in.tq)),
        keys_(wanted(out.gk, out.gtk, out.gkWeight, in.tk)),
        queryNorm_(g, in.qWeight),
        keyNorm_(g, in.kWeight),
        sequences_(attentionSequences(g, in, Tiles::kBackwardKeys, padded<C>(1), AttentionOrder::Pairs)) {}

  void run() {
    const int64_t heads = static_cast<int64_t>(sequences_.size()) * g_.keyHeads;
    if (heads == 0) return sumWeights(out_.gqWeight, nullptr, 0), sumWeights(out_.gkWeight, nullptr, 0);
    int64_t pairs = 0, most = 0;
    for (const AttentionSequence& s : sequences_) {
      pairs += s.pairs();
      most = std::max(most, kKeySums * s.packedKeys() * width_);
    }
    const int64_t parts = kSmallTasks * most * kSize <= kSmallSums ? kSmallTasks : kTasks;
    int64_t packed = 0, partial = 0, keyTile = 0, mostPacked = 0, shortRoom = 0;
    for (const AttentionSequence& s : sequences_) {
      if (isShort(s)) shortRoom = std::max(shortRoom, shortBackwardRoom(s.queries, s.keys, g_.dim));
      Plan plan{s.packedKeys() * depth_, s.packedKeys() * width_};
      const int64_t tiles = std::max<int64_t>(1, group_ * queryTilesOf(s)),
                    all = std::max<int64_t>(1, g_.keyHeads * pairs);
      plan.splits = std::clamp<int64_t>((parts * s.pairs() + all - 1) / all, 1, tiles);
      plan.packed = packed;
      plan.partial = partial;
      packed += g_.keyHeads * plan.size();
      mostPacked = std::max(mostPacked, plan.size());
      partial += g_.keyHeads * plan.splits * plan.sums();
      keyTile = std::max(keyTile, s.keyTile);
      plans_.push_back(plan);
    }
    const SequenceItems tasks(sequences_, [&](size_t i) { return g_.keyHeads * plans_[i].splits; });
    const SequenceItems keyTiles(sequences_, [&](size_t i) { return g_.keyHeads * sequences_[i].keyTiles; });
    const int64_t threads = teamSize();
    const typename Scratch::Room room(leftWidth_, width_, keyTile);
    // Small heads are packed, walked and finished one by one, in memory of the thread's own.
    const bool kept = tasks.size() == heads && (roomFor<C, E>(mostPacked) + most) * kSize <= kKeptBytes;
    if (kept) packed = threads * (packedEach_ = mostPacked), partial = threads * (sumsEach_ = most);
    // What tasks and tiles of keys add to the gradients of weights.
    const int64_t ofQueryWeight = out_.gqWeight ? tasks.size() * width_ : 0;
    const int64_t ofKeyWeight = out_.gkWeight ? keyTiles.size() * width_ : 0;
    const int64_t operands = roomFor<C, E>(packed), means = heads * kMeans * width_;
    const int64_t size = operands + means + partial + ofQueryWeight + ofKeyWeight;
    const int64_t each = std::max(room.all(), shortRoom);
    const Tensor workspace = Tensor::empty(in_.q.device(), {size + threads * each}, DTypeOf<C>::value);
    workspace.storage()->materialize();
    C* base = workspace.data<C>();
    packed_ = reinterpret_cast<E*>(base);
    means_ = base + operands;
    partial_ = means_ + means;
    C *queryWeight = partial_ + partial, *keyWeight = queryWeight + ofQueryWeight;
    const bool parallel = g_.queryHeads * pairs * g_.dim > 16384;
    const auto scratch = [&] { return base + size + teamThread() * each; };
    const auto packTile = [&](int64_t i) {
      const auto [sequence, index] = keyTiles[i];
      if (isShort(sequences_[sequence])) return;
      const int64_t tiles = sequences_[sequence].keyTiles;
      pack(sequence, index / tiles, index % tiles, scratch());
    };
    const auto walk = [&](int64_t i) {
      const auto [sequence, index] = tasks[i];
      if constexpr (kHasShort) {
        if (isShort(sequences_[sequence])) return shortHead(sequences_[sequence], index, scratch());
      }
      const Plan& plan = plans_[sequence];
      const int64_t head = index / plan.splits, split = index % plan.splits;
      const int64_t queryTiles = queryTilesOf(sequences_[sequence]), perHead = group_ * queryTiles;
      C* const sums = sumsOf(sequence, head, split);
      std::fill_n(sums, plan.sums(), C(0));
      C* weight = out_.gqWeight ? queryWeight + i * width_ : nullptr;
      if (weight) std::fill_n(weight, width_, C(0));
      for (int64_t at = perHead * split / plan.splits; at < perHead * (split + 1) / plan.splits; ++at) {
        queryTile(sequence, head, head * group_ + at / queryTiles, at % queryTiles * kQueryTile, sums, weight,
                  Scratch(scratch(), room));
      }
    };
    const auto finishTile = [&](int64_t i) {
      const auto [sequence, index] = keyTiles[i];
      if (isShort(sequences_[sequence])) return;
      const int64_t tiles = sequences_[sequence].keyTiles;
      C* weight = out_.gkWeight ? keyWeight + i * width_ : nullptr;
      if (weight) std::fill_n(weight, width_, C(0));
      finish(sequence, index / tiles, index % tiles, weight);
    };
    const auto findMeansOf = [&](int64_t i) {
      if (!isShort(sequences_[i / g_.keyHeads])) findMeans(i / g_.keyHeads, i % g_.keyHeads, scratch());
    };
    if (kept) {
      parallelTasks(heads, parallel, [&](int64_t i) {
        const int64_t sequence = i / g_.keyHeads, tiles = sequences_[sequence].keyTiles;
        const int64_t first = keyTiles.number({sequence, i % g_.keyHeads * tiles});
        findMeansOf(i);
        for (int64_t tile = 0; tile < tiles; ++tile) packTile(first + tile);
        walk(i);
        for (int64_t tile = 0; tile < tiles; ++tile) finishTile(first + tile);
      });
    } else {
      const auto forAll = [&](int64_t count, const auto& body) {
        parallelFor(count, parallel, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) body(i);
        });
      };
      parallelTasks(heads, parallel, findMeansOf);
      forAll(keyTiles.size(), packTile);
      parallelTasks(tasks.size(), parallel, walk);
      forAll(keyTiles.size(), finishTile);
    }
    sumWeights(out_.gqWeight, queryWeight, tasks.size());
    sumWeights(out_.gkWeight, keyWeight, keyTiles.size());
  }

 private:
  static constexpr int64_t kSize = sizeof(C);
  static constexpr int64_t kKeySums = 4;  // gk, gv, gtk, gtv
  static constexpr int64_t kMeans = 4;    // of O, tO, K, tK

  // Where a head's packed operands lie: Kᵀ, tKᵀ, Vᵀ, tVᵀ by tiles, then K and tK as they are.
  struct Plan {
    int64_t transposed, natural;
    int64_t splits = 1;  // tasks of a key head
    int64_t packed = 0, partial = 0;
    int64_t size() const { return 4 * transposed + 2 * natural; }
    int64_t sums() const { return kKeySums * natural; }
    int64_t kT(int64_t index) const { return index * transposed; }
    int64_t k(int64_t index) const { return 4 * transposed + index * natural; }
  };

  static constexpr bool kHasShort = std::is_same_v<T, float>;

  // Its heads are not split, as several query heads of a key head may be.
  bool isShort(const AttentionSequence& s) const { return kHasShort && group_ == 1 && cpu::isShort(g_, s); }

  void shortHead(const AttentionSequence& s, int64_t h, float* scratch) const {
    static_assert(kShortQueries <= kQueryTile);
    int64_t visible[kShortQueries];
    const ShortHead head = shortHeadOf(g_, in_, s, h, h, visible);
    const int64_t queries = s.queryOffset(g_, h), keys = s.keyOffset(g_, h), scalars = s.scalarOffset(g_, h);
    shortBackward({head, rowsFrom(saved_.o, queries), rowsFrom(saved_.lse, scalars), rowsFrom(saved_.to, queries),
                   rowsFrom(saved_.mu, scalars), rowsFrom(g0_, queries), rowsFrom(h_, queries),
                   rowsFrom(out_.gq, queries), rowsFrom(out_.gk, keys), rowsFrom(out_.gv, keys),
                   rowsFrom(out_.gtq, queries), rowsFrom(out_.gtk, keys), rowsFrom(out_.gtv, keys)},
                  scratch);
  }

  // Which gradients of what attention itself sees (normalised, if asked for) are needed for those of the operands.
  struct Wanted {
    bool primal, tangent;
  };
  Wanted wanted(const Tensor& primal, const Tensor& tangent, const Tensor& weight, const Tensor& operand) const {
    const bool first = primal || weight;
    return {first, second_ && (tangent || (g_.normalize && operand && first))};
  }

  static int64_t queryTilesOf(const AttentionSequence& s) { return (s.queries + kQueryTile - 1) / kQueryTile; }
  E* packedOf(int64_t sequence, int64_t head) const {
    if (packedEach_ > 0) return packed_ + teamThread() * packedEach_;
    return packed_ + plans_[sequence].packed + head * plans_[sequence].size();
  }
  C* outputMean(int64_t sequence, int64_t head, int64_t index) const {
    return means_ + ((sequence * g_.keyHeads + head) * kMeans + index) * width_;
  }
  C* keyMean(int64_t sequence, int64_t head, int64_t index) const { return outputMean(sequence, head, 2 + index); }
  C* sumsOf(int64_t sequence, int64_t head, int64_t split) const {
    const Plan& plan = plans_[sequence];
    if (sumsEach_ > 0) return partial_ + teamThread() * sumsEach_;
    return partial_ + plan.partial + (head * plan.splits + split) * plan.sums();
  }
  const T* at(const Tensor& x, int64_t offset) const { return x ? x.data<T>() + offset : nullptr; }

  void findMeans(int64_t sequence, int64_t head, C* scratch) {
    const AttentionSequence& s = sequences_[sequence];
    outputMeans(s, head, outputMean(sequence, head, 0), outputMean(sequence, head, 1), scratch);
    // The queries' gradients are gS K + gT tK, and the rows of gS and gT sum to zero: a constant taken from all keys
    // changes nothing but the rounding, which a large common offset of the keys would otherwise rule. The mean of the
    // first keys does, unless the scores are to be free of it as well: that takes the mean of all.
    const int64_t keys = s.keyOffset(g_, head), count = g_.centerKeys ? s.length : std::min(s.keyTile, s.length);
    const int64_t stride = g_.rowStride(g_.keyHeads);
    const T *k = in_.k.data<T>() + keys, *tk = second_ ? at(in_.tk, keys) : nullptr;
    C *mean = keyMean(sequence, head, 0), *tangentMean = keyMean(sequence, head, 1);
    keyMeans(keyNorm_, k, tk, stride, count, g_.dim, mean, tangentMean, scratch);
    Tiles::roundMean(mean, g_.dim);
    if (tk) Tiles::roundMean(tangentMean, g_.dim);
    // Keys less their mean are rounded again: only where that costs less than it saves.
    if (Tiles::kRounded && !g_.centerKeys) {
      const int64_t some = std::min(count, kMeanRows);
      C* tangentRows = scratch + kMeanRows * width_;
      if (count > kMeanRows) keyNorm_.load(k, tk, stride, some, scratch, tangentRows);  // else they are there
      keepRulingMeans(scratch, some, g_.dim, mean);
      if (tk) keepRulingMeans(tangentRows, some, g_.dim, tangentMean);
    }
  }

  // gS = P (G Vᵀ + H tVᵀ - delta) + …, in which a constant taken from all values and from O, or from all their tangents
  // and from tO, changes nothing but the rounding: where one key holds nearly all the weight, gS is the small
  // difference of large numbers unless that key's value is the constant. The means of the first queries' outputs come
  // close to it. Rounded tiles have the values as they are unless it is so: less a mean they are rounded themselves.
  void outputMeans(const AttentionSequence& s, int64_t head, C* to, C* tangent, C* scratch) {
    const int64_t stride = g_.rowStride(g_.queryHeads), rows = std::min(kQueryTile, s.queries);
    const int64_t first = s.queryOffset(g_, head * group_);
    const Tensor* sources[] = {&saved_.o, &saved_.to};
    C* targets[] = {to, tangent};
    for (int64_t index = 0; index < 2; ++index) {
      C* mean = targets[index];
      std::fill_n(mean, width_, C(0));
      if (!*sources[index] || (index == 1 && !(in_.tv && second_))) continue;  // no tV to take it from
      const T* source = sources[index]->data<T>() + first;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t p = 0; p < g_.dim; ++p) mean[p] += static_cast<C>(source[i * stride + p]) / static_cast<C>(rows);
      }
      // A query that is not finite spoils its own gradients, not those of the others.
      for (int64_t p = 0; p < g_.dim; ++p) mean[p] = std::isfinite(mean[p]) ? mean[p] : C(0);
      if (!Tiles::kRounded) continue;
      const int64_t some = std::min(kMeanRows, s.length);
      packRows(at(index == 0 ? in_.v : in_.tv, s.keyOffset(g_, head)), g_.rowStride(g_.keyHeads), some, g_.dim,
               scratch);
      if (!rules(mean, scratch, some, g_.dim)) std::fill_n(mean, width_, C(0));
      Tiles::roundMean(mean, g_.dim);
    }
  }

  void pack(int64_t sequence, int64_t head, int64_t tile, C* scratch) {
    const AttentionSequence& s = sequences_[sequence];
    const Plan& plan = plans_[sequence];
    E* base = packedOf(sequence, head);
    const int64_t first = tile * s.keyTile, rows = std::min(s.keyTile, s.keys - first);
    const int64_t stride = g_.rowStride(g_.keyHeads), offset = s.keyOffset(g_, head) + first * stride;
    // A key that does not count may hold anything, and be the other half of a pair.
    const int64_t counting = std::clamp<int64_t>(s.length - first, 0, rows);
    const auto transpose = [&](const auto* from, int64_t rowStride, int64_t i) {
      Tiles::packTransposed(from, rowStride, rows, g_.dim, s.keyTile, base + plan.kT(i) + first * depth_);
    };
    const bool tangents[] = {true, in_.tk && second_};
    const auto isZero = [&](const C* mean) { return std::all_of(mean, mean + g_.dim, [](C x) { return x == C(0); }); };
    const auto natural = [&](const auto* from, int64_t rowStride, int64_t i) {
      Tiles::packNatural(from, rowStride, counting, g_.dim, base + plan.k(i) + first * width_);
    };
    C* wide[] = {scratch, scratch + s.keyTile * width_};
    // 16-bit keys that nothing changes need not be widened and rounded.
    const bool changed = !Tiles::kRounded || !keyNorm_.isPlain() || g_.centerKeys ||
                         !isZero(keyMean(sequence, head, 0)) || (tangents[1] && !isZero(keyMean(sequence, head, 1)));
    if (changed)
      keyNorm_.load(in_.k.data<T>() + offset, tangents[1] ? at(in_.tk, offset) : nullptr, stride, rows, wide[0],
                    wide[1]);
    for (int64_t i = 0; i < 2; ++i) {
      if (!tangents[i]) continue;
      if (!changed) {
        const T* keys = at(i == 0 ? in_.k : in_.tk, offset);
        transpose(keys, stride, i);
        natural(keys, stride, i);
        continue;
      }
      const C* mean = keyMean(sequence, head, i);
      if (g_.centerKeys) subtractRows(wide[i], mean, rows, g_.dim);
      transpose(wide[i], width_, i);
      if (!g_.centerKeys) subtractRows(wide[i], mean, rows, g_.dim);
      natural(wide[i], width_, i);
    }
    for (int64_t i = 0; i < 2; ++i) {
      const Tensor& values = i == 0 ? in_.v : in_.tv;
      if (!values || (i == 1 && !second_)) continue;
      const C* mean = outputMean(sequence, head, i);
      if (Tiles::kRounded && isZero(mean)) {
        transpose(at(values, offset), stride, 2 + i);
        continue;
      }
      packRows(at(values, offset), stride, rows, g_.dim, scratch);
      subtractRows(scratch, mean, rows, g_.dim);
      transpose(scratch, width_, 2 + i);
    }
  }

  void queryTile(int64_t sequence, int64_t keyHead, int64_t h, int64_t first, C* sums, C* weight,
                 const Scratch& scratch) {
    const AttentionSequence& seq = sequences_[sequence];
    const Plan& plan = plans_[sequence];
    const E* packed = packedOf(sequence, keyHead);
    const int64_t rows = std::min(kQueryTile, seq.queries - first), stride = g_.rowStride(g_.queryHeads);
    const int64_t offset = seq.queryOffset(g_, h) + first * stride, keyTile = seq.keyTile;
    const auto& [gq, gtq, q, tq, g, hh, s, t, d, r] = scratch;
    const T* tangent = second_ ? at(in_.tq, offset) : nullptr;
    Tiles::load(queryNorm_, in_.q.data<T>() + offset, tangent, stride, rows, g_.dim, q.left, tq.left, gq);
    if (g0_) packRows(g0_.data<T>() + offset, stride, rows, g_.dim, g.left);
    if (h_) packRows(h_.data<T>() + offset, stride, rows, g_.dim, hh.left);
    if constexpr (Tiles::kRounded) {
      const auto pairUp = [&](bool given, const Operand& x) {
        if (given) Tiles::packNatural(x.left, leftWidth_, rows, g_.dim, x.right);
      };
      pairUp(true, q), pairUp(tangent, tq), pairUp(static_cast<bool>(g0_), g), pairUp(second_, hh);
    }
    std::fill_n(gq, rows * width_, C(0));
    std::fill_n(gtq, rows * width_, C(0));
    C a[kQueryTile], delta[kQueryTile];
    Tiles::outputSums(OutputSums<C, E, T>{
        rows, g_.dim, g0_ ? g.left : nullptr, second_ ? hh.left : nullptr, leftWidth_, at(saved_.o, offset),
        at(saved_.to, offset), stride, outputMean(sequence, keyHead, 0), outputMean(sequence, keyHead, 1), a, delta});

    const int64_t row0 = seq.scalarOffset(g_, h) + first;
    const C* lse = saved_.lse.data<C>() + row0;
    const C* mu = moving_ ? saved_.mu.data<C>() + row0 : nullptr;
    const auto visible = [&](int64_t i) { return seq.visible(g_, first + i); };
    const bool tk = in_.tk && second_, tv = in_.tv && second_;
    for (int64_t j = 0; j < visible(rows - 1); j += keyTile) {
      const int64_t keys = std::min(keyTile, seq.length - j);  // what lies beyond is never read
      const auto right = [&](int64_t i) { return packed + plan.kT(i) + j * depth_; };
      // [rows, dim] times a transposed operand -> [rows, keys]
      bool written = false;
      const auto scores = [&](bool wanted, const Operand& left, int64_t other, const Weights& c) {
        if (!wanted) return;
        Tiles::product(rows, keyTile, g_.dim, Tiles::alongRows(left.left, leftWidth_), right(other), c.values, written);
        written = true;
      };
      const auto begin = [&] { written = false; };
      begin(), scores(true, q, 0, s);
      begin(), scores(moving_ && in_.tq, tq, 0, t), scores(moving_ && tk, q, 1, t);
      begin(), scores(second_, hh, 2, d);
      begin(), scores(static_cast<bool>(g0_), g, 2, r), scores(tv, hh, 3, r);
      if (!written) std::fill_n(r.values, rows * keyTile, C(0));
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t valid = std::clamp<int64_t>(visible(i) - j, 0, keyTile), o = i * keyTile;
        backwardTileRow(BackwardRow<C>{keyTile, valid, static_cast<C>(g_.scale), lse[i], mu ? mu[i] : C(0), a[i],
                                       delta[i], s.values + o, moving_ ? t.values + o : nullptr,
                                       second_ ? d.values + o : nullptr, r.values + o});
        if constexpr (Tiles::kRounded) {
          if (i % 2 == 0 && i + 1 < rows) continue;
          const int64_t from = i - i % 2;
          const bool alone = i % 2 == 0;
          s.round(from, alone, keyTile);
          if (moving_) t.round(from, alone, keyTile);
          if (second_) d.round(from, alone, keyTile);
          r.round(from, alone, keyTile);
        }
      }
      // [rows, keys] times an operand as it is -> the queries' gradients
      const auto toQueries = [&](bool wanted, const Weights& weights, int64_t operand, C* c) {
        if (!wanted) return;
        const E* other = packed + plan.k(operand) + j * width_;
        Tiles::product(rows, width_, keys, Tiles::alongRows(weights.rows, keyTile), other, c, true);
      };
      toQueries(queries_.primal, r, 0, gq);
      toQueries(queries_.primal && tk, d, 1, gq);
      toQueries(queries_.tangent, d, 0, gtq);
      // its transpose times the tile's rows -> the keys' gradients
      const auto toKeys = [&](bool wanted, const Weights& weights, const Operand& other, int64_t index) {
        if (!wanted) return;
        C* c = sums + index * plan.natural + j * width_;
        Tiles::product(keys, width_, rows, Tiles::alongColumns(weights.columns, keyTile), other.right, c, true);
      };
      toKeys(keys_.primal, r, q, 0);
      toKeys(keys_.primal && second_ && in_.tq, d, tq, 0);
      toKeys(out_.gv && g0_, s, g, 1);
      toKeys(out_.gv && moving_, t, hh, 1);
      toKeys(keys_.tangent, d, q, 2);
      toKeys(out_.gtv && second_, s, hh, 3);
    }
    if (g_.normalize && (queries_.primal || queries_.tangent)) {
      scaleRows(gq, rows);
      scaleRows(gtq, rows);
      queryNorm_.pullBack(in_.q.data<T>() + offset, tangent, stride, rows, gq, gtq, weight);
    }
    if (out_.gq) unpackRows(gq, scaleLeft(), rows, out_.gq.data<T>() + offset, stride);
    if (out_.gtq) unpackRows(gtq, scaleLeft(), rows, out_.gtq.data<T>() + offset, stride);
  }

  // Gradients of scores are to be multiplied by `scale`: before QKNorm's backward, or else on the way out.
  C scaleLeft() const { return g_.normalize ? C(1) : static_cast<C>(g_.scale); }
  void scaleRows(C* rows, int64_t count) const {
    const C scale = static_cast<C>(g_.scale);
    for (int64_t i = 0; i < count * width_; ++i) rows[i] *= scale;
  }

  void unpackRows(const C* from, C factor, int64_t rows, T* to, int64_t stride) const {
    for (int64_t i = 0; i < rows; ++i) Tiles::unpackRow(from + i * width_, factor, g_.dim, to + i * stride);
  }

  // Adds a tile of the keys' gradients over the head's tasks, in order, and writes it.
  void finish(int64_t sequence, int64_t head, int64_t tile, C* weight) {
    const AttentionSequence& s = sequences_[sequence];
    const Plan& plan = plans_[sequence];
    const int64_t first = tile * s.keyTile, rows = std::min(s.keyTile, s.keys - first);
    const int64_t stride = g_.rowStride(g_.keyHeads), offset = s.keyOffset(g_, head) + first * stride;
    C* total = sumsOf(sequence, head, 0) + first * width_;
    const bool used[] = {keys_.primal, static_cast<bool>(out_.gv), keys_.tangent, static_cast<bool>(out_.gtv)};
    for (int64_t index = 0; index < kKeySums; ++index) {
      C* sum = total + index * plan.natural;
      for (int64_t split = 1; used[index] && split < plan.splits; ++split) {
        const C* from = sum + split * plan.sums();
        for (int64_t i = 0; i < rows * width_; ++i) sum[i] += from[i];
      }
    }
    if (g_.normalize && (keys_.primal || keys_.tangent)) {
      C *gk = total, *gtk = total + 2 * plan.natural;
      scaleRows(gk, rows);
      scaleRows(gtk, rows);
      // Keys that do not count may hold anything: their gradients are zeros already.
      const int64_t counting = std::clamp<int64_t>(s.length - first, 0, rows);
      keyNorm_.pullBack(in_.k.data<T>() + offset, second_ ? at(in_.tk, offset) : nullptr, stride, counting, gk, gtk,
                        weight);
    }
    const Tensor* targets[] = {&out_.gk, &out_.gv, &out_.gtk, &out_.gtv};
    for (int64_t index = 0; index < kKeySums; ++index) {
      if (!*targets[index]) continue;
      const C factor = index % 2 == 0 ? scaleLeft() : C(1);
      unpackRows(total + index * plan.natural, factor, rows, targets[index]->data<T>() + offset, stride);
    }
  }

  // Adds what tasks or tiles have summed of a weight's gradient, in order.
  void sumWeights(const Tensor& target, const C* sums, int64_t count) const {
    if (!target) return;
    C total[kMaxHeadDim];
    std::fill_n(total, g_.dim, C(0));
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t p = 0; p < g_.dim; ++p) total[p] += sums[i * width_ + p];
    }
    for (int64_t p = 0; p < g_.dim; ++p) target.data<T>()[p] = static_cast<T>(total[p]);
  }

  const AttentionGeometry& g_;
  const AttentionOperands& in_;
  const AttentionResults& saved_;
  const AttentionGradients& out_;
  const Tensor &g0_, &h_;
  const int64_t width_, leftWidth_, depth_, group_;  // of rows of sums, of left operands; of transposed operands
  const bool second_;                                // there is a cotangent of the tangent
  const bool moving_;                                // and scores have a tangent
  const Wanted queries_, keys_;
  const HeadNorm<T> queryNorm_, keyNorm_;
  const std::vector<AttentionSequence> sequences_;
  std::vector<Plan> plans_;
  E* packed_ = nullptr;
  C *means_ = nullptr, *partial_ = nullptr;
  int64_t packedEach_ = 0, sumsEach_ = 0;  // of a thread, where heads are kept in its cache
};

}  // namespace

void CpuBackend::attentionVjp(const AttentionGeometry& geometry, const AttentionGradients& out,
                              const AttentionOperands& in, const AttentionResults& saved, const Tensor& g,
                              const Tensor& h) {
  dispatchFloating(in.q.dtype(), [&]<class T>() {
    withTiles<T>([&]<class Tiles>(Tiles) { Backward<T, Tiles>(geometry, in, saved, out, g, h).run(); });
  });
}

}  // namespace flowmap::cpu
