#include "cpu/gemm_packed.h"

#include <algorithm>
#include <array>
#include <new>

#include "cpu/parallel.h"
#include "cpu/product_blocks.h"
#include "cpu/product_panels.h"

namespace flowmap::cpu {
namespace {

// Rows of a panel: with the rows of A that meet it, it fits a second-level cache.
constexpr int64_t kDepth = 512;
// Columns of B that are packed at a time, and floats.
constexpr int64_t kColumns = 1536, kPacked = kDepth * kColumns;
// Groups of A's rows that a panel meets before the next, at most, and at least where threads share the columns.
constexpr int64_t kGroups = 12, kLeastGroups = 6;
// Rows of a panel that one thread packs at a time.
constexpr int64_t kPackedRows = 64;

// Kept for the next product: fresh memory costs more than packing does. Vectors are read within lines of a cache.
class KeptFloats {
 public:
  ~KeptFloats() { release(); }
  float* atLeast(int64_t count) {
    if (size_ < count) {
      release();
      size_ = 0;
      memory_ = static_cast<float*>(::operator new(static_cast<size_t>(count) * sizeof(float), kAlignment));
      size_ = count;
    }
    return memory_;
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  void release() {
    ::operator delete(memory_, kAlignment);
    memory_ = nullptr;
  }
  float* memory_ = nullptr;
  int64_t size_ = 0;
};

int64_t ceilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Some rows of a B, packed.
struct Segment {
  const float* b;
  int64_t row, depth;
  float* panels;
};

class PackedGemm {
 public:
  PackedGemm(const GemmShape& shape, const GemmSum* sums, int64_t count)
      : shape_(shape),
        sums_(sums),
        count_(count),
        sizes_(panelSizes()),
        groups_(ceilDivide(shape.m, sizes_.rows)),
        threads_(shape.m * shape.n * shape.k * count < kLeastProduct ? 1 : teamSize()),
        depth_(ceilDivide(shape.k, ceilDivide(shape.k, kDepth))) {}

  void run() {
    const int64_t n = shape_.n,
                  width = ceilDivide(ceilDivide(n, ceilDivide(n, kColumns)), sizes_.columns) * sizes_.columns;
    thread_local KeptFloats memory;
    // All of it here: threads that share the work cannot fail.
    const int64_t own = shape_.transposeA ? kGroups * spacing(depth_) : 0;
    groupsOfThreads_ = memory.atLeast(threads_ * own + kPacked);
    float* const packed = groupsOfThreads_ + threads_ * own;
    for (left_ = 0; left_ < n; left_ = right_) {
      right_ = std::min(left_ + width, n);
      panels_ = ceilDivide(right_ - left_, sizes_.columns);
      const int64_t row = panels_ * sizes_.columns, rows = kPacked / row;
      started_ = false;
      segments_ = 0;
      int64_t used = 0;
      const auto add = [&](const float* b) {
        for (int64_t p = 0; p < shape_.k; p += depth_) {
          const int64_t take = std::min(depth_, shape_.k - p);
          if (segments_ == kMostSegments || used + take > rows) pass(), used = 0;
          segment_[segments_++] = {b, p, take, packed + used * row};
          used += take;
        }
      };
      for (int64_t i = 0; i < count_ * GemmSum::kMostTerms; ++i) {
        const float* b = rightOf(i);
        bool seen = b == nullptr;
        for (int64_t j = 0; j < i && !seen; ++j) seen = rightOf(j) == b;
        if (!seen) add(b);
      }
      pass();
    }
  }

 private:
  static constexpr int64_t kMostSegments = 8;

  const float* rightOf(int64_t i) const {
    const GemmSum& sum = sums_[i / GemmSum::kMostTerms];
    return i % GemmSum::kMostTerms < sum.terms ? sum.term[i % GemmSum::kMostTerms].b : nullptr;
  }

  // Packs the segments and multiplies by them.
  void pass() {
    pack();
    const int64_t all = count_ * groups_, wanted = kMostPartsPerThread * threads_;
    // Where rows are few, threads share the columns: at once if reading panels is what it costs, late if packing A is.
    const int64_t least = shape_.transposeA ? 1 : kLeastGroups;
    const int64_t strips = threads_ > 1 ? std::min(panels_, ceilDivide(wanted, std::max<int64_t>(all / least, 1))) : 1;
    const auto part = [&](int64_t begin, int64_t end) {
      while (begin < end) {
        const int64_t strip = begin / all, sum = begin % all / groups_, group = begin % groups_;
        const int64_t there = std::min(end - begin, groups_ - group);
        const int64_t take = ceilDivide(there, ceilDivide(there, kGroups));
        multiply(sums_[sum], group, take, panels_ * strip / strips, panels_ * (strip + 1) / strips);
        begin += take;
      }
    };
    parallelFor(all * strips, threads_ > 1, 1, part, kMostPartsPerThread);
    started_ = true;
    segments_ = 0;
  }

  void pack() {
    int64_t firsts[kMostSegments + 1] = {0};
    for (int64_t i = 0; i < segments_; ++i) {
      firsts[i + 1] = firsts[i] + panels_ * ceilDivide(segment_[i].depth, kPackedRows);
    }
    const auto part = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin, at = 0; i < end; ++i) {
        while (i >= firsts[at + 1]) ++at;
        packPiece(segment_[at], (i - firsts[at]) % panels_, (i - firsts[at]) / panels_ * kPackedRows);
      }
    };
    parallelFor(firsts[segments_], threads_ > 1, 1, part, kMostPartsPerThread);
  }

  void packPiece(const Segment& segment, int64_t at, int64_t from) const {
    const int64_t row = segment.row + from, depth = std::min(kPackedRows, segment.depth - from);
    const int64_t column = left_ + at * sizes_.columns, columns = std::min(sizes_.columns, right_ - column);
    float* to = panel(segment, at) + from * sizes_.columns;
    if (shape_.transposeB)
      packPanelTransposed(segment.b + column * shape_.k + row, shape_.k, depth, columns, to);
    else
      packPanel(segment.b + row * shape_.n + column, shape_.n, depth, columns, to);
  }

  float* panel(const Segment& segment, int64_t at) const {
    return segment.panels + at * sizes_.columns * segment.depth;
  }

  // Groups [group, group + count) of the sum's rows, against panels [begin, end) of all segments.
  void multiply(const GemmSum& sum, int64_t group, int64_t count, int64_t begin, int64_t end) const {
    const int64_t row = group * sizes_.rows, rows = std::min(count * sizes_.rows, shape_.m - row);
    bool accumulate = sum.accumulate || started_;
    for (int64_t i = 0; i < segments_; ++i) {
      for (int64_t t = 0; t < sum.terms; ++t) {
        if (sum.term[t].b != segment_[i].b) continue;
        PanelProduct product{};
        product.rows = rows, product.depth = segment_[i].depth;
        product.cRow = shape_.n, product.accumulate = accumulate;
        place(product, sum.term[t].a, row, segment_[i].row);
        for (int64_t at = begin; at < end; ++at) {
          const int64_t column = left_ + at * sizes_.columns;
          product.b = panel(segment_[i], at);
          product.columns = std::min(sizes_.columns, right_ - column);
          product.offset = sum.offset ? sum.offset + column : nullptr;
          product.c = sum.c + row * shape_.n + column;
          panelProduct(product);
        }
        accumulate = true;
      }
    }
  }

  // Floats from group to group: no multiple of a page, which would bring them together in a few lines of a cache.
  int64_t spacing(int64_t depth) const { return sizes_.rows * depth + 16; }

  // Columns of `a` from `column` on: as they lie, or packed where they are its rows.
  void place(PanelProduct& product, const float* a, int64_t row, int64_t column) const {
    if (!shape_.transposeA) {
      product.a = a + row * shape_.k + column, product.aRow = shape_.k;
      return;
    }
    product.grouped = true;
    product.aGroup = spacing(product.depth);
    // Within a part of somebody else's work this is the only thread, whichever it is.
    float* const groups = groupsOfThreads_ + (threads_ > 1 ? teamThread() : 0) * kGroups * spacing(depth_);
    packGroups(a + column * shape_.m + row, shape_.m, product.depth, product.rows, groups, product.aGroup);
    product.a = groups;
  }

  const GemmShape& shape_;
  const GemmSum* const sums_;
  const int64_t count_;
  const PanelSizes sizes_;
  // Groups of A's rows; threads that share the work; rows of a panel.
  const int64_t groups_, threads_, depth_;
  float* groupsOfThreads_ = nullptr;
  // Columns of B that are worked on, in so many panels; whether some of their products are in the results.
  int64_t left_ = 0, right_ = 0, panels_ = 0;
  bool started_ = false;
  std::array<Segment, kMostSegments> segment_;
  int64_t segments_ = 0;
};

}  // namespace

bool packingPays(const GemmShape& shape) {
  const int64_t m = shape.m, n = shape.n, k = shape.k, work = m * n * k;
  if (k == 0) return false;
  // Few rows do not make up for the packing, few columns leave most of a vector idle.
  if (m < 24 || n < 8) return false;
  if (m < 384 && n * k > 1 << 20) return false;
  // Results that no cache holds and that are added to many times.
  if (!shape.transposeA && k > 1536 && n > 1536) return false;
  // Where B is Wᵀ, oneDNN's packing is slow from the start; that of a transposed A only costs in large products.
  if (shape.transposeB) return true;
  return work >= (shape.transposeA ? 1 << 25 : 1 << 22);
}

void gemmPacked(const GemmShape& shape, const GemmSum* sums, int64_t count) { PackedGemm(shape, sums, count).run(); }

}  // namespace flowmap::cpu
