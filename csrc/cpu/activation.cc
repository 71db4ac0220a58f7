// Activations over tensors: runs of elements to threads.
#include <algorithm>

#include "core/dispatch.h"
#include "cpu/activation_runs.h"
#include "cpu/backend.h"
#include "cpu/parallel.h"
#include "cpu/row_buffers.h"
#include "cpu/streaming.h"

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
  const bool streamed = isStreamed(y, ty);
  dispatchFloating(x.dtype(), [&]<class T>() {
    forRuns(n, [&](int64_t begin, int64_t end) {
      RowReader<T> xs(x.data<T>(), kRun), txs(tx.data<T>(), kRun);
      RowWriter<T> ys(y.data<T>(), kRun, streamed), tys(ty.data<T>(), kRun, streamed);
      for (int64_t at = begin * kRun; at < std::min(n, end * kRun); at += kRun) {
        const int64_t length = std::min(kRun, n - at);
        activationRun(op, length, xs(at, length), txs(at, length), ys(at), tys(at));
        ys.finish(at, length);
        tys.finish(at, length);
      }
    });
  });
}

void CpuBackend::activationVjp(ActivationOp op, const Tensor& gx, const Tensor& gtx, const Tensor& x, const Tensor& tx,
                               const Tensor& g, const Tensor& h) {
  const int64_t n = x.numel();
  const bool streamed = isStreamed(gx, gtx);
  dispatchFloating(x.dtype(), [&]<class T>() {
    forRuns(n, [&](int64_t begin, int64_t end) {
      RowReader<T> xs(x.data<T>(), kRun), txs(tx.data<T>(), kRun), gs(g.data<T>(), kRun), hs(h.data<T>(), kRun);
      RowWriter<T> gxs(gx.data<T>(), kRun, streamed), gtxs(gtx.data<T>(), kRun, streamed);
      for (int64_t at = begin * kRun; at < std::min(n, end * kRun); at += kRun) {
        const int64_t length = std::min(kRun, n - at);
        activationVjpRun(op, length,
                         {xs(at, length), tx ? txs(at, length) : nullptr, g ? gs(at, length) : nullptr,
                          h ? hs(at, length) : nullptr, gxs(at), gtxs(at)});
        gxs.finish(at, length);
        gtxs.finish(at, length);
      }
    });
  });
}

}  // namespace flowmap::cpu
