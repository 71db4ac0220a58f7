// RMS and layer normalisation over tensors: rows to threads, column sums in chunks that do not depend on the number of
// threads.
#include "cpu/norm_rows.h"

#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "core/dispatch.h"
#include "cpu/backend.h"
#include "cpu/gated_rows.h"
#include "cpu/parallel.h"
#include "cpu/row_buffers.h"
#include "cpu/softmax_rows.h"
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
  int64_t leftInGroup() const { return layout_.rowsPerGroup - inGroup_; }
  void next() {
    input_ = nextInput();
    if (++inSegment_ == layout_.rowsPerSegment) inSegment_ = 0;
    if (++inGroup_ == layout_.rowsPerGroup) inGroup_ = 0, ++group_;
  }

 private:
  const NormLayout& layout_;
  int64_t input_, inSegment_, group_, inGroup_;
};

// Rows that are computed together: where each begins in the input, and their group.
struct RowsTogether {
  int64_t count, group;
  std::array<int64_t, kNormRows> input;
  int64_t next;  // where the row after them begins in the input; the last of all where there is none

  // From `place` on, which it moves behind them, up to row `end` and to their group's last.
  RowsTogether(const NormLayout& layout, RowPlace& place, int64_t first, int64_t end)
      : count(std::min({normRowsTogether(layout.dim), end - first, place.leftInGroup()})) {
    group = place.group();
    for (int64_t i = 0; i < count; ++i, place.next()) input[i] = place.input();
    next = first + count < layout.rows ? place.input() : input[count - 1];
  }
};

// The operands' readers of one thread.
template <class T>
struct Readers {
  using C = Compute<T>;
  RowReader<T> x, tx, gain, tgain, shift, tshift;
  std::vector<C> ones, centeredX, centeredTx;
  bool hasGain, hasTangent, isModulated;
  Readers(const NormOperands& in, const NormLayout& layout) : Readers(in, layout.dim, normRowsTogether(layout.dim)) {
    if (!layout.centered) return;
    const int64_t size = layout.dim * normRowsTogether(layout.dim);
    centeredX.resize(static_cast<size_t>(size));
    if (hasTangent) centeredTx.resize(static_cast<size_t>(size));
  }
  Readers(const NormOperands& in, int64_t dim, int64_t atOnce)
      : x(in.x.data<T>(), dim, atOnce),
        tx(in.tx.data<T>(), dim, atOnce),
        gain(in.gain.data<T>(), dim),
        tgain(in.tgain.data<T>(), dim),
        shift(in.shift.data<T>(), dim),
        tshift(in.tshift.data<T>(), dim),
        hasGain(static_cast<bool>(in.gain)),
        hasTangent(static_cast<bool>(in.tx)),
        isModulated(in.tgain || in.shift || in.tshift) {
    if (!hasGain) ones.assign(static_cast<size_t>(dim), C(1));
  }
  NormRows<C> at(const NormLayout& layout, const RowsTogether& rows) {
    const int64_t affine = rows.group * layout.dim;
    NormRows<C> result;
    result.count = rows.count, result.dim = layout.dim;
    result.eps = static_cast<C>(layout.eps), result.offset = static_cast<C>(hasGain ? layout.gainOffset : 0.0);
    result.gain = hasGain ? gain(affine) : ones.data(), result.tgain = tgain(affine);
    result.shift = shift(affine), result.tshift = tshift(affine);
    result.scaled = hasGain, result.modulated = isModulated;
    result.next = {x.address(rows.next), tx.address(rows.next)}, result.nextItem = sizeof(T);
    for (int64_t i = 0; i < rows.count; ++i) {
      const C *primal = x.nth(i, rows.input[i]), *tangent = tx.nth(i, rows.input[i]);
      if (layout.centered) {
        primal = centered(layout.dim, primal, centeredX.data() + i * layout.dim);
        if (hasTangent) tangent = centered(layout.dim, tangent, centeredTx.data() + i * layout.dim);  // else zeros
      }
      result.x[i] = primal;
      result.tx[i] = tangent;
    }
    return result;
  }

 private:
  static const C* centered(int64_t dim, const C* row, C* to) {
    centerRow(dim, row, to);
    return to;
  }
};

bool isLarge(const NormLayout& layout) { return layout.rows * layout.dim >= kParallelElements / 4; }

}  // namespace

void CpuBackend::norm(const NormLayout& layout, const Tensor& y, const Tensor& ty, const NormOperands& in) {
  if (layout.dim == 0) return;
  const bool streamed = isStreamed(y, ty);
  dispatchFloating(in.x.dtype(), [&]<class T>() {
    parallelFor(layout.rows, isLarge(layout), 8, [&](int64_t begin, int64_t end) {
      using C = Compute<T>;
      const int64_t atOnce = normRowsTogether(layout.dim);
      Readers<T> read(in, layout);
      RowWriter<T> ys(y.data<T>(), layout.dim, streamed, atOnce), tys(ty.data<T>(), layout.dim, streamed, atOnce);
      RowPlace place(layout, begin);
      for (int64_t row = begin; row < end;) {
        const RowsTogether rows(layout, place, row, end);
        RowsOut<C> to, tangentsTo;
        for (int64_t i = 0; i < rows.count; ++i) {
          to[i] = ys.nth(i, (row + i) * layout.dim);
          tangentsTo[i] = tys.nth(i, (row + i) * layout.dim);
        }
        normForwardRows(read.at(layout, rows), to, tangentsTo);
        for (int64_t i = 0; i < rows.count; ++i) {
          ys.finishNth(i, (row + i) * layout.dim);
          tys.finishNth(i, (row + i) * layout.dim);
        }
        row += rows.count;
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
      using C = Compute<T>;
      const int64_t dim = layout.dim, atOnce = normRowsTogether(dim);
      Readers<T> read(in, layout);
      RowReader<T> gs(g.data<T>(), dim, atOnce), hs(h.data<T>(), dim, atOnce);
      RowWriter<T> gx(out.gx.data<T>(), dim, streamed, atOnce), gtx(out.gtx.data<T>(), dim, streamed, atOnce);
      for (int64_t chunk = begin; chunk < end; ++chunk) {
        RowPlace place(layout, chunks[chunk].begin);
        for (int64_t row = chunks[chunk].begin; row < chunks[chunk].end;) {
          const RowsTogether rows(layout, place, row, chunks[chunk].end);
          NormRows<C> operands = read.at(layout, rows);
          NormRowsGradients<C> gradients;
          gradients.gainSum = gain.at(chunk), gradients.tgainSum = tgain.at(chunk);
          gradients.shiftSum = shift.at(chunk), gradients.tshiftSum = tshift.at(chunk);
          for (int64_t i = 0; i < rows.count; ++i) {
            gradients.g[i] = gs.nth(i, (row + i) * dim);
            gradients.h[i] = hs.nth(i, (row + i) * dim);
            gradients.gx[i] = gx.nth(i, rows.input[i]);
            gradients.gtx[i] = gtx.nth(i, rows.input[i]);
          }
          row += rows.count;
          const int64_t next = std::min(row, layout.rows - 1) * dim;
          operands.next[2] = gs.address(next), operands.next[3] = hs.address(next);
          normBackwardRows(operands, gradients);
          for (int64_t i = 0; i < rows.count; ++i) {
            if (layout.centered) {  // centring is its own transpose
              if (C* const of = gradients.gx[i]) centerRow(dim, of, of);
              if (C* const of = gradients.gtx[i]) centerRow(dim, of, of);
            }
            gx.finishNth(i, rows.input[i]);
            gtx.finishNth(i, rows.input[i]);
          }
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
