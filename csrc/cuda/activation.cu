// Activations: value alone, value with tangent, and the backward of both, one launch each that reads every tensor once.
// What is absent is neither read nor written.
#include "cuda/backend.h"
#include "cuda/map.cuh"
#include "cuda/scalar_lanes.cuh"

// after the exponential it calls
#include "core/activation_formulas-inl.h"

namespace flowmap::cuda {
namespace {

template <class F>
struct ValueOf {
  template <class C>
  __device__ __forceinline__ C operator()(C x) const {
    return F::at(Lane<C>(), x).value;
  }
};

// Calls body(first, live) for the packets that are this thread's.
template <int kCount, class Body>
__device__ __forceinline__ void forPackets(int64_t n, const Body& body) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x * kCount;
  for (int64_t first = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kCount; first < n; first += step) {
    body(first, n - first < kCount ? static_cast<int>(n - first) : kCount);
  }
}

template <class F, int kCount, class T>
__global__ void __launch_bounds__(kThreads) activationJvpKernel(T* y, T* ty, int64_t n, const T* x, const T* tx) {
  using C = Compute<T>;
  forPackets<kCount>(n, [&](int64_t first, int live) {
    const Values<C, kCount> xs = loadValues<kCount>(Operand<T>{x, C(0)}, first, false, live);
    const Values<C, kCount> txs = loadValues<kCount>(Operand<T>{tx, C(0)}, first, false, live);
    Packet<T, kCount> ys, tys;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Derivatives<C> f = F::at(Lane<C>(), xs.at[i]);
      ys.at[i] = static_cast<T>(f.value);
      tys.at[i] = static_cast<T>(f.first * txs.at[i]);
    }
    if (y) storePacket(y + first, ys, live);
    storePacket(ty + first, tys, live);
  });
}

template <class F, int kCount, class T>
__global__ void __launch_bounds__(kThreads)
    activationVjpKernel(T* gx, T* gtx, int64_t n, const T* x, const T* tx, const T* g, const T* h) {
  using C = Compute<T>;
  forPackets<kCount>(n, [&](int64_t first, int live) {
    const Values<C, kCount> xs = loadValues<kCount>(Operand<T>{x, C(0)}, first, false, live);
    const Values<C, kCount> txs = loadValues<kCount>(Operand<T>{tx, C(0)}, first, false, live);
    const Values<C, kCount> gs = loadValues<kCount>(Operand<T>{g, C(0)}, first, false, live);
    const Values<C, kCount> hs = loadValues<kCount>(Operand<T>{h, C(0)}, first, false, live);
    Packet<T, kCount> gxs, gtxs;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const Derivatives<C> f = F::at(Lane<C>(), xs.at[i]);
      gxs.at[i] = static_cast<T>(hn::MulAdd(f.first, gs.at[i], f.second * (txs.at[i] * hs.at[i])));
      gtxs.at[i] = static_cast<T>(f.first * hs.at[i]);
    }
    if (gx) storePacket(gx + first, gxs, live);
    if (gtx) storePacket(gtx + first, gtxs, live);
  });
}

template <class T>
T* dataOrNull(const Tensor& t) {
  return t ? t.data<T>() : nullptr;
}

template <class Body>
void dispatchActivation(ActivationOp op, DType dtype, const Body& body) {
  dispatchFloating(dtype, [&]<class T>() {
    if (op == ActivationOp::Gelu)
      body.template operator()<Gelu, T>();
    else
      body.template operator()<Silu, T>();
  });
}

}  // namespace

void CudaBackend::activation(ActivationOp op, const Tensor& y, const Tensor& ty, const Tensor& x, const Tensor& tx) {
  const int64_t n = x.numel();
  if (n == 0) return;
  dispatchActivation(op, x.dtype(), [&]<class F, class T>() {
    const T* xs = x.data<const T>();
    if (!ty) return mapFlat(runtime_, y.data<T>(), n, ValueOf<F>{}, xs);
    constexpr int kCount = kPacketBytes / sizeof(T);
    launchKernel(runtime_, activationJvpKernel<F, kCount, T>, gridFor(runtime_, n, kCount), dataOrNull<T>(y),
                 ty.data<T>(), n, xs, dataOrNull<const T>(tx));
  });
}

void CudaBackend::activationVjp(ActivationOp op, const Tensor& gx, const Tensor& gtx, const Tensor& x, const Tensor& tx,
                                const Tensor& g, const Tensor& h) {
  const int64_t n = x.numel();
  if (n == 0 || (!gx && !gtx)) return;
  dispatchActivation(op, x.dtype(), [&]<class F, class T>() {
    constexpr int kCount = kPacketBytes / sizeof(T);
    // What only one of the results needs is not read for the other.
    const bool curved = gx && tx && h;
    launchKernel(runtime_, activationVjpKernel<F, kCount, T>, gridFor(runtime_, n, kCount), dataOrNull<T>(gx),
                 dataOrNull<T>(gtx), n, x.data<const T>(), curved ? tx.data<const T>() : nullptr,
                 gx ? dataOrNull<const T>(g) : nullptr, curved || gtx ? dataOrNull<const T>(h) : nullptr);
  });
}

}  // namespace flowmap::cuda
