// RMS and layer normalisation over tensors: rows to threads, column sums in chunks that do not depend on the number of
// threads.
#include "cpu/norm_rows.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "core/dispatch.h"
#include "cpu/backend.h"
#include "cpu/parallel.h"
#include "cpu/row_buffers.h"
#include "cpu/streaming.h"

namespace flowmap::cpu {
namespace {

struct RowChunk {
  int64_t group, begin, end;
};

// Chunks of rows, none across a group's end: about 64 rows, more where a group has very many.
std::vector<RowChunk> rowChunks(int64_t rows, int64_t rowsPerGroup) {
  const int64_t size = std::max<int64_t>(64, (rowsPerGroup + 255) / 256);
  std::vector<RowChunk> chunks;
  for (int64_t group = 0; group * rowsPerGroup < rows; ++group) {
    const int64_t last = std::min(rows, (group + 1) * rowsPerGroup);
    for (int64_t begin = group * rowsPerGroup; begin < last; begin += size) {
      chunks.push_back({group, begin, std::min(last, begin + size)});
    }
  }
  return chunks;
}

// Sums over the rows of each group: chunks write partial rows, which are then added in order.
template <class T>
class GroupSums {
 public:
  using C = Compute<T>;
  GroupSums(const Tensor& target, const std::vector<RowChunk>& chunks, int64_t dim)
      : target_(target), chunks_(chunks), dim_(dim) {
    if (target) partial_.resize(chunks.size() * static_cast<size_t>(dim));
  }
  C* at(int64_t chunk) { return target_ ? partial_.data() + chunk * dim_ : nullptr; }
  void finish() {
    if (!target_) return;
    const int64_t groups = dim_ ? target_.numel() / dim_ : 0;
    std::vector<C> sum(static_cast<size_t>(dim_));
    size_t chunk = 0;
    for (int64_t group = 0; group < groups; ++group) {
      std::fill(sum.begin(), sum.end(), C(0));
      for (; chunk < chunks_.size() && chunks_[chunk].group == group; ++chunk) {
        const C* from = partial_.data() + chunk * dim_;
        for (int64_t i = 0; i < dim_; ++i) sum[i] += from[i];
      }
      T* to = target_.data<T>() + group * dim_;
      for (int64_t i = 0; i < dim_; ++i) to[i] = static_cast<T>(sum[i]);
    }
  }

 private:
  Tensor target_;
  const std::vector<RowChunk>& chunks_;
  int64_t dim_;
  std::vector<C> partial_;
};

// Where rows begin in the input, one after another, and which group they are of: without a division for each.
class RowPlace {
 public:
  RowPlace(const NormLayout& layout, int64_t row)
      : layout_(layout),
        input_(row / layout.rowsPerSegment * layout.segmentStride + layout.segmentOffset +
               row % layout.rowsPerSegment * layout.dim),
        inSegment_(row % layout.rowsPerSegment),
        group_(row / layout.rowsPerGroup),
        inGroup_(row % layout.rowsPerGroup) {}
  int64_t input() const { return input_; }
  int64_t nextInput() const {
    return inSegment_ + 1 < layout_.rowsPerSegment ? input_ + layout_.dim
                                                   : input_ - inSegment_ * layout_.dim + layout_.segmentStride;
  }
  int64_t group() const { return group_; }
  void next() {
    input_ = nextInput();
    if (++inSegment_ == layout_.rowsPerSegment) inSegment_ = 0;
    if (++inGroup_ == layout_.rowsPerGroup) inGroup_ = 0, ++group_;
  }

 private:
  const NormLayout& layout_;
  int64_t input_, inSegment_, group_, inGroup_;
};

// The operands' readers of one thread.
template <class T>
struct Readers {
  RowReader<T> x, tx, gain, tgain, shift, tshift;
  std::vector<Compute<T>> ones, centeredX, centeredTx;
  bool hasGain, hasTangent, isModulated;
  Readers(const NormOperands& in, const NormLayout& layout) : Readers(in, layout.dim) {
    if (!layout.centered) return;
    centeredX.resize(static_cast<size_t>(layout.dim));
    if (hasTangent) centeredTx.resize(static_cast<size_t>(layout.dim));
  }
  Readers(const NormOperands& in, int64_t dim)
      : x(in.x.data<T>(), dim),
        tx(in.tx.data<T>(), dim),
        gain(in.gain.data<T>(), dim),
        tgain(in.tgain.data<T>(), dim),
        shift(in.shift.data<T>(), dim),
        tshift(in.tshift.data<T>(), dim),
        hasGain(static_cast<bool>(in.gain)),
        hasTangent(static_cast<bool>(in.tx)),
        isModulated(in.tgain || in.shift || in.tshift) {
    if (!hasGain) ones.assign(static_cast<size_t>(dim), Compute<T>(1));
  }
  NormRow<Compute<T>> at(const NormLayout& layout, const RowPlace& place, bool last) {
    using C = Compute<T>;
    const int64_t in = place.input(), affine = place.group() * layout.dim;
    const C *primal = x(in), *tangent = tx(in);
    if (layout.centered) {
      centerRow(layout.dim, primal, centeredX.data());
      primal = centeredX.data();
      if (hasTangent) {  // else a row of zeros
        centerRow(layout.dim, tangent, centeredTx.data());
        tangent = centeredTx.data();
      }
    }
    const int64_t next = last ? in : place.nextInput();
    return {layout.dim,
            static_cast<C>(layout.eps),
            static_cast<C>(hasGain ? layout.gainOffset : 0.0),
            primal,
            tangent,
            hasGain ? gain(affine) : ones.data(),
            tgain(affine),
            shift(affine),
            tshift(affine),
            hasGain,
            isModulated,
            {x.address(next), tx.address(next)},
            sizeof(T)};
  }
};

bool isLarge(const NormLayout& layout) { return layout.rows * layout.dim >= kParallelElements / 4; }

}  // namespace

void CpuBackend::norm(const NormLayout& layout, const Tensor& y, const Tensor& ty, const NormOperands& in) {
  if (layout.dim == 0) return;
  const bool streamed = isStreamed(y, ty);
  dispatchFloating(in.x.dtype(), [&]<class T>() {
    parallelFor(layout.rows, isLarge(layout), 8, [&](int64_t begin, int64_t end) {
      Readers<T> read(in, layout);
      RowWriter<T> ys(y.data<T>(), layout.dim, streamed), tys(ty.data<T>(), layout.dim, streamed);
      RowPlace place(layout, begin);
      for (int64_t row = begin; row < end; ++row, place.next()) {
        const int64_t at = row * layout.dim;
        normForwardRow(read.at(layout, place, row + 1 == layout.rows), ys(at), tys(at));
        ys.finish(at);
        tys.finish(at);
      }
    });
  });
}

void CpuBackend::normVjp(const NormLayout& layout, const NormGradients& out, const NormOperands& in, const Tensor& g,
                         const Tensor& h) {
  const bool streamed = isStreamed(out.gx, out.gtx);
  dispatchFloating(in.x.dtype(), [&]<class T>() {
    const std::vector<RowChunk> chunks = rowChunks(layout.rows, layout.rowsPerGroup);
    GroupSums<T> gain(out.ggain, chunks, layout.dim), tgain(out.gtgain, chunks, layout.dim);
    GroupSums<T> shift(out.gshift, chunks, layout.dim), tshift(out.gtshift, chunks, layout.dim);
    const int64_t count = layout.dim ? static_cast<int64_t>(chunks.size()) : 0;
    parallelFor(count, isLarge(layout), 1, [&](int64_t begin, int64_t end) {
      Readers<T> read(in, layout);
      RowReader<T> gs(g.data<T>(), layout.dim), hs(h.data<T>(), layout.dim);
      RowWriter<T> gx(out.gx.data<T>(), layout.dim, streamed), gtx(out.gtx.data<T>(), layout.dim, streamed);
      for (int64_t chunk = begin; chunk < end; ++chunk) {
        const RowChunk& rows = chunks[chunk];
        RowPlace place(layout, rows.begin);
        for (int64_t row = rows.begin; row < rows.end; ++row, place.next()) {
          const int64_t at = row * layout.dim, input = place.input();
          const bool last = row + 1 == layout.rows;
          const auto gxRow = gx(input), gtxRow = gtx(input);
          auto operands = read.at(layout, place, last);
          const int64_t next = last ? at : at + layout.dim;
          operands.next[2] = gs.address(next), operands.next[3] = hs.address(next);
          normBackwardRow(operands, {gs(at), hs(at), gxRow, gtxRow, gain.at(chunk), tgain.at(chunk), shift.at(chunk),
                                     tshift.at(chunk)});
          if (layout.centered) {  // centring is its own transpose
            if (gxRow) centerRow(layout.dim, gxRow, gxRow);
            if (gtxRow) centerRow(layout.dim, gtxRow, gtxRow);
          }
          gx.finish(input);
          gtx.finish(input);
        }
      }
    });
    gain.finish();
    tgain.finish();
    shift.finish();
    tshift.finish();
  });
}

void CpuBackend::gatedResidual(const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& gate, const Tensor& z,
                               const Tensor& tx, const Tensor& tgate, const Tensor& tz) {
  const int64_t dim = x.shape()[-1], perGroup = x.shape()[-2];
  if (x.numel() == 0) return;
  const bool streamed = isStreamed(y, ty);
  dispatchFloating(x.dtype(), [&]<class T>() {
    parallelFor(x.numel() / dim, x.numel() >= kParallelElements, 8, [&](int64_t begin, int64_t end) {
      RowReader<T> xs(x.data<T>(), dim), zs(z.data<T>(), dim), gates(gate.data<T>(), dim);
      RowReader<T> txs(tx.data<T>(), dim), tzs(tz.data<T>(), dim), tgates(tgate.data<T>(), dim);
      RowWriter<T> ys(y.data<T>(), dim, streamed), tys(ty.data<T>(), dim, streamed);
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * dim, group = row / perGroup * dim;
        gatedForwardRow(GatedRow<Compute<T>>{dim, xs(at), gates(group), zs(at), txs(at), tgates(group), tzs(at)},
                        ys(at), tys(at));
        ys.finish(at);
        tys.finish(at);
      }
    });
  });
}

void CpuBackend::gatedResidualVjp(const Tensor& ggate, const Tensor& gz, const Tensor& gtgate, const Tensor& gtz,
                                  const Tensor& gate, const Tensor& z, const Tensor& tgate, const Tensor& tz,
                                  const Tensor& g, const Tensor& h) {
  const int64_t dim = z.shape()[-1], perGroup = z.shape()[-2];
  const int64_t rows = dim ? z.numel() / dim : 0;
  const bool streamed = isStreamed(gz, gtz);
  dispatchFloating(z.dtype(), [&]<class T>() {
    const std::vector<RowChunk> chunks = rows ? rowChunks(rows, perGroup) : std::vector<RowChunk>();
    GroupSums<T> gates(ggate, chunks, dim), tgates(gtgate, chunks, dim);
    parallelFor(static_cast<int64_t>(chunks.size()), z.numel() >= kParallelElements, 1,
                [&](int64_t begin, int64_t end) {
                  RowReader<T> zs(z.data<T>(), dim), gateRow(gate.data<T>(), dim), tzs(tz.data<T>(), dim),
                      tgateRow(tgate.data<T>(), dim), gs(g.data<T>(), dim), hs(h.data<T>(), dim);
                  RowWriter<T> gzs(gz.data<T>(), dim, streamed), gtzs(gtz.data<T>(), dim, streamed);
                  for (int64_t chunk = begin; chunk < end; ++chunk) {
                    const RowChunk& range = chunks[chunk];
                    for (int64_t row = range.begin; row < range.end; ++row) {
                      const int64_t at = row * dim, group = range.group * dim;
                      gatedBackwardRow(
                          GatedRow<Compute<T>>{dim, nullptr, gateRow(group), zs(at), nullptr, tgateRow(group), tzs(at)},
                          {gs(at), hs(at), gzs(at), gtzs(at), gates.at(chunk), tgates.at(chunk)});
                      gzs.finish(at);
                      gtzs.finish(at);
                    }
                  }
                });
    gates.finish();
    tgates.finish();
  });
}

void CpuBackend::softmax(const Tensor& y, const Tensor& x) {
  const int64_t dim = x.shape()[-1];
  if (x.numel() == 0) return;
  const bool streamed = isStreamed(y);
  dispatchFloating(x.dtype(), [&]<class T>() {
    parallelFor(x.numel() / dim, x.numel() >= kParallelElements / 4, 4, [&](int64_t begin, int64_t end) {
      RowReader<T> xs(x.data<T>(), dim);
      RowWriter<T> ys(y.data<T>(), dim, streamed);
      for (int64_t row = begin; row < end; ++row) {
        softmaxRow(dim, xs(row * dim), ys(row * dim));
        ys.finish(row * dim);
      }
    });
  });
}

}  // namespace flowmap::cpu
