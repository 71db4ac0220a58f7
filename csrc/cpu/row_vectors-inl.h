// Rows of any length as vectors: whole ones, then what is left, in the same instructions. Sums run in several at
// once, as one would wait for itself at every step. Included once per SIMD level, from within HWY_TARGET_INCLUDE files.
#if defined(FLOWMAP_ROW_VECTORS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLOWMAP_ROW_VECTORS_INL_H_
#undef FLOWMAP_ROW_VECTORS_INL_H_
#else
#define FLOWMAP_ROW_VECTORS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <array>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace flowmap::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <class C>
using RowVector = hn::Vec<hn::ScalableTag<C>>;

// The elements from `at` on that fill a vector.
template <class C>
struct WholeVector {
  int64_t at;
  HWY_INLINE RowVector<C> load(const C* row) const { return hn::LoadU(hn::ScalableTag<C>(), row + at); }
  HWY_INLINE void store(RowVector<C> x, C* row) const { hn::StoreU(x, hn::ScalableTag<C>(), row + at); }
};

// The last `count`, fewer than fill one; the others are zeros.
template <class C>
struct PartVector {
  int64_t at, count;
  HWY_INLINE RowVector<C> load(const C* row) const {
    const hn::ScalableTag<C> d;
    if constexpr (kMasks) {
      return hn::MaskedLoad(mask(), d, row + at);
    } else {
      HWY_ALIGN C lanes[hn::MaxLanes(d)] = {};
      for (int64_t i = 0; i < count; ++i) lanes[i] = row[at + i];
      return hn::Load(d, lanes);
    }
  }
  HWY_INLINE void store(RowVector<C> x, C* row) const {
    const hn::ScalableTag<C> d;
    if constexpr (kMasks) {
      hn::BlendedStore(x, mask(), d, row + at);
    } else {
      HWY_ALIGN C lanes[hn::MaxLanes(d)];
      hn::Store(x, d, lanes);
      for (int64_t i = 0; i < count; ++i) row[at + i] = lanes[i];
    }
  }

 private:
  // Elsewhere masked loads read all lanes, beyond the row as well.
  static constexpr bool kMasks = HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3;
  HWY_INLINE hn::Mask<hn::ScalableTag<C>> mask() const {
    return hn::FirstN(hn::ScalableTag<C>(), static_cast<size_t>(count));
  }
};

// body(place) for all places of a row.
template <class C, class Body>
HWY_INLINE void forVectors(int64_t dim, Body body) {
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(hn::ScalableTag<C>()));
  int64_t at = 0;
  for (; at + lanes <= dim; at += lanes) body(WholeVector<C>{at});
  if (at < dim) body(PartVector<C>{at, dim - at});
}

// body(place, sums) adds what it finds to each of `Count` sums. Of long rows there are sums of pieces, added in double:
// rounding errors do not grow with the row.
template <class C, int Count, class Body>
HWY_INLINE std::array<C, Count> sumVectors(int64_t dim, Body body) {
  constexpr int64_t kPiece = 4096;
  constexpr int kAtOnce = Count > 2 ? 2 : 4;  // with what they are made of, in registers
  const hn::ScalableTag<C> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  double total[Count] = {};
  for (int64_t begin = 0; begin < dim; begin += kPiece) {
    const int64_t end = std::min(dim, begin + kPiece);
    RowVector<C> sums[kAtOnce][Count];
    for (auto& of : sums) {
      for (RowVector<C>& sum : of) sum = hn::Zero(d);
    }
    int64_t at = begin;
    for (; at + kAtOnce * lanes <= end; at += kAtOnce * lanes) {
      for (int i = 0; i < kAtOnce; ++i) body(WholeVector<C>{at + i * lanes}, sums[i]);
    }
    for (; at + lanes <= end; at += lanes) body(WholeVector<C>{at}, sums[0]);
    if (at < end) body(PartVector<C>{at, end - at}, sums[1]);
    for (int j = 0; j < Count; ++j) {
      for (int i = kAtOnce / 2; i > 0; i /= 2) {
        for (int from = 0; from < i; ++from) sums[from][j] = hn::Add(sums[from][j], sums[from + i][j]);
      }
      total[j] += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sums[0][j])));
    }
  }
  std::array<C, Count> result;
  for (int j = 0; j < Count; ++j) result[j] = static_cast<C>(total[j]);
  return result;
}

// In lane i the lanes of x[i] combined, of as many vectors as one has lanes; uses them up.
template <class D, class V, class Combine>
HWY_INLINE V combineEach([[maybe_unused]] D d, V* x, [[maybe_unused]] Combine combine) {
#if HWY_TARGET != HWY_SCALAR  // where a vector has one lane
  for (size_t count = hn::Lanes(d) / 2; count > 0; count /= 2) {
    for (size_t i = 0; i < count; ++i) {
      const V lower = x[2 * i], upper = x[2 * i + 1];
      x[i] = combine(hn::ConcatEven(d, upper, lower), hn::ConcatOdd(d, upper, lower));
    }
  }
#endif
  return x[0];
}

template <class D, class V>
HWY_INLINE V sumOfEach(D d, V* x) {
  return combineEach(d, x, [](V a, V b) HWY_ATTR { return hn::Add(a, b); });
}

template <class D, class V>
HWY_INLINE V maxOfEach(D d, V* x) {
  return combineEach(d, x, [](V a, V b) HWY_ATTR { return hn::Max(a, b); });
}

}  // namespace flowmap::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLOWMAP_ROW_VECTORS_INL_H_
