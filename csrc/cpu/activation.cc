// Activations over tensors: runs of elements to threads.
#include <algorithm>

#include "core/dispatch.h"
#include "cpu/activation_runs.h"
#include "cpu/backend.h"
#include "cpu/parallel.h"
#include "cpu/row_buffers.h"

namespace flowmap::cpu {
namespace {

constexpr int64_t kRun = 2048;  // what a 16-bit tensor is widened by at a time

template <class Body>
void forRuns(int64_t n, Body body) {
  parallelFor((n + kRun - 1) / kRun, n >= kParallelElements / 4, 1, body);
}

}  // namespace

void CpuBackend::activation(ActivationOp op, const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& tx) {
  const int64_t n = x.numel();
  dispatchFloating(x.dtype(), [&]<class T>() {
    forRuns(n, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin * kRun; at < std::min(n, end * kRun); at += kRun) {
        const int64_t length = std::min(kRun, n - at);
        const auto part = [&](const Tensor& t) { return t ? t.data<T>() + at : nullptr; };
        RowReader<T> xs(part(x), length), txs(part(tx), length);
        RowWriter<T> ys(part(y), length), tys(part(ty), length);
        activationRun(op, length, xs(0), txs(0), ys(0), tys(0));
        ys.finish(0);
        tys.finish(0);
      }
    });
  });
}

void CpuBackend::activationVjp(ActivationOp op, const Tensor& gx, const Tensor& gtx, const Tensor& x, const Tensor& tx,
                               const Tensor& g, const Tensor& h) {
  const int64_t n = x.numel();
  dispatchFloating(x.dtype(), [&]<class T>() {
    forRuns(n, [&](int64_t begin, int64_t end) {
      for (int64_t at = begin * kRun; at < std::min(n, end * kRun); at += kRun) {
        const int64_t length = std::min(kRun, n - at);
        const auto part = [&](const Tensor& t) { return t ? t.data<T>() + at : nullptr; };
        RowReader<T> xs(part(x), length), txs(part(tx), length), gs(part(g), length), hs(part(h), length);
        RowWriter<T> gxs(part(gx), length), gtxs(part(gtx), length);
        activationVjpRun(op, length,
                         {xs(0), tx ? txs(0) : nullptr, g ? gs(0) : nullptr, h ? hs(0) : nullptr, gxs(0), gtxs(0)});
        gxs.finish(0);
        gtxs.finish(0);
      }
    });
  });
}

}  // namespace flowmap::cpu
