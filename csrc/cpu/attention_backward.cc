// The backward pass of attention and its tangent, in one walk over the tiles: fifteen products with everything, five
// for plain attention. A task owns a key head and a range of its queries: the queries' gradients are its own, the keys'
// it sums in rows of its own, added up in a fixed order where a head has several tasks. The split depends on the shape
// alone, so results do not depend on the number of threads.
#include <omp.h>

#include <cmath>
#include <limits>

#include "core/dispatch.h"
#include "cpu/attention_pack.h"
#include "cpu/backend.h"

namespace flowmap::cpu {
namespace {

constexpr int64_t kQueryTile = 96;
constexpr int64_t kKeyTile = 64;
constexpr int64_t kTasks = 8;  // fewer key heads than this are split by queries

template <class T>
class Backward {
  using C = Compute<T>;

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
        keyTile_(std::min(kKeyTile, padded<C>(std::max<int64_t>(g.keys, 1)))),
        keyTiles_((g.keys + keyTile_ - 1) / keyTile_),
        group_(g.queryHeads / std::max<int64_t>(1, g.keyHeads)),
        second_(tangentCotangent),
        moving_(second_ && (in.tq || in.tk)) {}

  void run() {
    checkKeyLengths(in_.keyLengths, g_.keys);
    const int64_t heads = g_.batch * g_.keyHeads;
    const int64_t queryTiles = (g_.queries + kQueryTile - 1) / kQueryTile, perHead = group_ * queryTiles;
    if (heads == 0) return;
    const int64_t splits = std::clamp<int64_t>((kTasks + heads - 1) / heads, 1, std::max<int64_t>(1, perHead));
    const int64_t tasks = heads * splits, threads = omp_get_max_threads();
    const int64_t transposed = keyTiles_ * g_.dim * keyTile_, natural = keyTiles_ * keyTile_ * width_;
    const Plan plan{transposed, natural, width_};
    const int64_t packed = heads * plan.size(), sums = kKeySums * natural;
    const int64_t tile = kQueryTile * (6 * width_ + 4 * keyTile_);
    const Tensor workspace = Tensor::empty(in_.q.device(), {packed + tasks * sums + threads * tile}, DTypeOf<C>::value);
    workspace.storage()->materialize();
    C* base = workspace.data<C>();
    C* partial = base + packed;
    const bool parallel = heads * group_ * g_.queries * g_.keys * g_.dim > 16384;
#pragma omp parallel if (parallel)
    {
      C* scratch = partial + tasks * sums + omp_get_thread_num() * tile;
#pragma omp for schedule(static)
      for (int64_t head = 0; head < heads; ++head)
        means(head, base + head * plan.size() + plan.shift(0), base + head * plan.size() + plan.shift(1));
#pragma omp for schedule(static)
      for (int64_t i = 0; i < heads * keyTiles_; ++i)
        pack(i / keyTiles_, i % keyTiles_, base + i / keyTiles_ * plan.size(), plan);
#pragma omp for schedule(dynamic, 1)
      for (int64_t task = 0; task < tasks; ++task) {
        const int64_t head = task / splits, split = task % splits;
        C* own = partial + task * sums;
        std::fill_n(own, sums, C(0));
        for (int64_t i = perHead * split / splits; i < perHead * (split + 1) / splits; ++i) {
          queryTile(head, head % g_.keyHeads * group_ + i / queryTiles, i % queryTiles * kQueryTile,
                    base + head * plan.size(), plan, own, natural, scratch);
        }
      }
#pragma omp for schedule(static)
      for (int64_t i = 0; i < heads * keyTiles_; ++i) {
        finish(i / keyTiles_, i % keyTiles_, partial + i / keyTiles_ * splits * sums, splits, sums, natural);
      }
    }
  }

 private:
  static constexpr int64_t kKeySums = 4;  // gk, gv, gtk, gtv

  // Where a head's packed operands lie: Kᵀ, tKᵀ, Vᵀ, tVᵀ by tiles, then K and tK as they are, then the means of O and
  // tO.
  struct Plan {
    int64_t transposed, natural, width;
    int64_t size() const { return 4 * transposed + 2 * natural + 2 * width; }
    int64_t kT(int64_t index) const { return index * transposed; }
    int64_t k(int64_t index) const { return 4 * transposed + index * natural; }
    int64_t shift(int64_t index) const { return 4 * transposed + 2 * natural + index * width; }
  };

  // gS = P (G Vᵀ + H tVᵀ - delta) + …, in which a constant taken from all values and from O, or from all their tangents
  // and from tO, changes nothing but the rounding: where one key holds nearly all the weight, gS is the small
  // difference of large numbers unless that key's value is the constant. The means of the first queries' outputs come
  // close to it.
  void means(int64_t head, C* to, C* tangent) {
    const int64_t stride = g_.rowStride(g_.queryHeads), rows = std::min(kQueryTile, g_.queries);
    const int64_t at = g_.headOffset(head / g_.keyHeads, head % g_.keyHeads * group_, g_.queryHeads, g_.queries);
    const Tensor* sources[] = {&saved_.o, &saved_.to};
    C* targets[] = {to, tangent};
    for (int64_t index = 0; index < 2; ++index) {
      C* mean = targets[index];
      std::fill_n(mean, width_, C(0));
      if (!*sources[index] || (index == 1 && !(in_.tv && second_))) continue;  // no tV to take it from
      const T* source = sources[index]->data<T>() + at;
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t p = 0; p < g_.dim; ++p) mean[p] += static_cast<C>(source[i * stride + p]) / static_cast<C>(rows);
      }
      // A query that is not finite spoils its own gradients, not those of the others.
      for (int64_t p = 0; p < g_.dim; ++p) mean[p] = std::isfinite(mean[p]) ? mean[p] : C(0);
    }
  }

  void shiftColumns(C* transposed, const C* shift, int64_t rows) {
    for (int64_t p = 0; p < g_.dim; ++p) {
      for (int64_t j = 0; j < rows; ++j) transposed[p * keyTile_ + j] -= shift[p];
    }
  }

  void pack(int64_t head, int64_t tile, C* base, const Plan& plan) {
    const int64_t first = tile * keyTile_, rows = std::min(keyTile_, g_.keys - first);
    const int64_t stride = g_.rowStride(g_.keyHeads);
    const int64_t at = g_.headOffset(head / g_.keyHeads, head % g_.keyHeads, g_.keyHeads, g_.keys) + first * stride;
    const Tensor* sources[] = {&in_.k, &in_.tk, &in_.v, &in_.tv};
    for (int64_t i = 0; i < 4; ++i) {
      if (!*sources[i] || (i % 2 == 1 && !second_)) continue;
      const T* source = sources[i]->data<T>() + at;
      packTransposed(source, stride, rows, g_.dim, keyTile_, base + plan.kT(i) + tile * g_.dim * keyTile_);
      if (i == 2 || i == 3) {
        shiftColumns(base + plan.kT(i) + tile * g_.dim * keyTile_, base + plan.shift(i - 2), rows);
        continue;
      }
      C* natural = base + plan.k(i) + tile * keyTile_ * width_;
      packRows(source, stride, rows, g_.dim, natural);
      center(sources[i]->data<T>() + at - first * stride, stride, lengthOf(head / g_.keyHeads), rows, natural);
    }
  }

  // The queries' gradients are gS K + gT tK, and the rows of gS and gT sum to zero: a constant taken from all keys
  // changes nothing but the rounding, which a large common offset of the keys would otherwise rule. The mean of the
  // first keys.
  void center(const T* keys, int64_t stride, int64_t length, int64_t rows, C* natural) {
    const int64_t count = std::min(keyTile_, length);
    if (count == 0) return;
    C mean[256];
    std::fill_n(mean, g_.dim, C(0));
    for (int64_t j = 0; j < count; ++j) {
      for (int64_t p = 0; p < g_.dim; ++p) mean[p] += static_cast<C>(keys[j * stride + p]);
    }
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t p = 0; p < g_.dim; ++p) natural[i * width_ + p] -= mean[p] / static_cast<C>(count);
    }
  }

  int64_t lengthOf(int64_t b) const { return in_.keyLengths ? in_.keyLengths.data<int32_t>()[b] : g_.keys; }

  void queryTile(int64_t keyHead, int64_t h, int64_t first, const C* packed, const Plan& plan, C* sums, int64_t natural,
                 C* scratch) {
    const int64_t b = keyHead / g_.keyHeads;
    const int64_t rows = std::min(kQueryTile, g_.queries - first), stride = g_.rowStride(g_.queryHeads);
    const int64_t at = g_.headOffset(b, h, g_.queryHeads, g_.queries) + first * stride;
    const int64_t size = kQueryTile * width_;
    C *q = scratch, *tq = q + size, *g = tq + size, *hh = g + size, *gq = hh + size, *gtq = gq + size;
    C *s = gtq + size, *t = s + kQueryTile * keyTile_, *d = t + kQueryTile * keyTile_, *r = d + kQueryTile * keyTile_;
    const auto load = [&](const Tensor& x, C* to) {
      if (x) packRows(x.data<T>() + at, stride, rows, g_.dim, to);
    };
    load(in_.q, q);
    load(in_.tq, tq);
    load(g0_, g);
    load(h_, hh);
    std::fill_n(gq, rows * width_, C(0));
    std::fill_n(gtq, rows * width_, C(0));
    C a[kQueryTile], delta[kQueryTile];
    rowSums(at, stride, rows, g, hh, packed + plan.shift(0), packed + plan.shift(1), a, delta);

    const int64_t row0 = (b * g_.queryHeads + h) * g_.queries + first;
    const C* lse = saved_.lse.data<C>() + row0;
    const C* mu = moving_ ? saved_.mu.data<C>() + row0 : nullptr;
    const int64_t length = lengthOf(b);
    const auto visible = [&](int64_t i) {
      return g_.causal ? std::clamp<int64_t>(first + i + 1 + g_.keys - g_.queries, 0, length) : length;
    };
    const bool tk = in_.tk && second_, tv = in_.tv && second_;
    for (int64_t j = 0; j < visible(rows - 1); j += keyTile_) {
      const int64_t tile = j / keyTile_, keys = std::min(keyTile_, length - j);  // what lies beyond is never read
      const auto right = [&](int64_t i) { return packed + plan.kT(i) + tile * g_.dim * keyTile_; };
      // [rows, dim] times a transposed operand -> [rows, keys]
      bool written = false;
      const auto scores = [&](bool wanted, const C* left, const C* other, C* c) {
        if (!wanted) return;
        tileProduct(TileProduct<C>{rows, keyTile_, g_.dim, left, width_, 1, other, keyTile_, c, keyTile_, written});
        written = true;
      };
      const auto begin = [&] { written = false; };
      begin(), scores(true, q, right(0), s);
      begin(), scores(moving_ && in_.tq, tq, right(0), t), scores(moving_ && tk, q, right(1), t);
      begin(), scores(second_, hh, right(2), d);
      begin(), scores(static_cast<bool>(g0_), g, right(2), r), scores(tv, hh, right(3), r);
      if (!written) std::fill_n(r, rows * keyTile_, C(0));
      for (int64_t i = 0; i < rows; ++i) {
        const int64_t valid = std::clamp<int64_t>(visible(i) - j, 0, keyTile_), o = i * keyTile_;
        backwardTileRow(BackwardRow<C>{keyTile_, valid, static_cast<C>(g_.scale), lse[i], mu ? mu[i] : C(0), a[i],
                                       delta[i], s + o, moving_ ? t + o : nullptr, second_ ? d + o : nullptr, r + o});
      }
      // [rows, keys] times an operand as it is -> the queries' gradients
      const auto toQueries = [&](bool wanted, const C* weights, int64_t operand, C* c) {
        if (!wanted) return;
        const C* other = packed + plan.k(operand) + tile * keyTile_ * width_;
        tileProduct(TileProduct<C>{rows, width_, keys, weights, keyTile_, 1, other, width_, c, width_, true});
      };
      toQueries(static_cast<bool>(out_.gq), r, 0, gq);
      toQueries(out_.gq && tk, d, 1, gq);
      toQueries(out_.gtq && second_, d, 0, gtq);
      // its transpose times the tile's rows -> the keys' gradients
      const auto toKeys = [&](bool wanted, const C* weights, const C* other, int64_t index) {
        if (!wanted) return;
        C* c = sums + index * natural + tile * keyTile_ * width_;
        tileProduct(TileProduct<C>{keys, width_, rows, weights, 1, keyTile_, other, width_, c, width_, true});
      };
      toKeys(static_cast<bool>(out_.gk), r, q, 0);
      toKeys(out_.gk && second_ && in_.tq, d, tq, 0);
      toKeys(out_.gv && g0_, s, g, 1);
      toKeys(out_.gv && moving_, t, hh, 1);
      toKeys(out_.gtk && second_, d, q, 2);
      toKeys(out_.gtv && second_, s, hh, 3);
    }
    const C scale = static_cast<C>(g_.scale);
    if (out_.gq) unpackRows(gq, scale, rows, g_.dim, out_.gq.data<T>() + at, stride);
    if (out_.gtq) unpackRows(gtq, scale, rows, g_.dim, out_.gtq.data<T>() + at, stride);
  }

  // a = H·O and delta = G·O + H·tO, row by row, with the means taken from O and tO.
  void rowSums(int64_t at, int64_t stride, int64_t rows, const C* g, const C* h, const C* mean, const C* tangentMean,
               C* a, C* delta) {
    for (int64_t i = 0; i < rows; ++i) {
      const T* o = saved_.o.data<T>() + at + i * stride;
      const T* to = saved_.to ? saved_.to.data<T>() + at + i * stride : nullptr;
      C first = 0, second = 0;
      for (int64_t p = 0; p < g_.dim; ++p) {
        if (g0_) second += g[i * width_ + p] * (static_cast<C>(o[p]) - mean[p]);
        if (second_) {
          first += h[i * width_ + p] * (static_cast<C>(o[p]) - mean[p]);
          if (to) second += h[i * width_ + p] * (static_cast<C>(to[p]) - tangentMean[p]);
        }
      }
      a[i] = first;
      delta[i] = second;
    }
  }

  // Adds a tile of the keys' gradients over the head's tasks, in order, and writes it.
  void finish(int64_t head, int64_t tile, C* partial, int64_t splits, int64_t sums, int64_t natural) {
    const int64_t first = tile * keyTile_, rows = std::min(keyTile_, g_.keys - first);
    const int64_t stride = g_.rowStride(g_.keyHeads);
    const int64_t at = g_.headOffset(head / g_.keyHeads, head % g_.keyHeads, g_.keyHeads, g_.keys) + first * stride;
    const Tensor* targets[] = {&out_.gk, &out_.gv, &out_.gtk, &out_.gtv};
    for (int64_t index = 0; index < kKeySums; ++index) {
      if (!*targets[index]) continue;
      C* total = partial + index * natural + first * width_;
      for (int64_t split = 1; split < splits; ++split) {
        const C* from = total + split * sums;
        for (int64_t i = 0; i < rows * width_; ++i) total[i] += from[i];
      }
      const C factor = index % 2 == 0 ? static_cast<C>(g_.scale) : C(1);
      unpackRows(total, factor, rows, g_.dim, targets[index]->data<T>() + at, stride);
    }
  }

  const AttentionGeometry& g_;
  const AttentionOperands& in_;
  const AttentionResults& saved_;
  const AttentionGradients& out_;
  const Tensor &g0_, &h_;
  const int64_t width_, keyTile_, keyTiles_, group_;
  const bool second_;  // there is a cotangent of the tangent
  const bool moving_;  // and scores have a tangent
};

}  // namespace

void CpuBackend::attentionVjp(const AttentionGeometry& geometry, const AttentionGradients& out,
                              const AttentionOperands& in, const AttentionResults& saved, const Tensor& g,
                              const Tensor& h) {
  refuseNewOptions(geometry);
  dispatchFloating(in.q.dtype(), [&]<class T>() { Backward<T>(geometry, in, saved, out, g, h).run(); });
}

}  // namespace flowmap::cpu
