// Tensors made from nothing.
#include "core/convert_element.h"
#include "cuda/backend.h"
#include "cuda/divisor.h"
#include "cuda/launch.cuh"
#include "cuda/packet.cuh"

namespace flowmap::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(kThreads) fillKernel(T* y, int64_t n, T value) {
  constexpr int kCount = kPacketBytes / sizeof(T);
  Packet<T, kCount> packet;
#pragma unroll
  for (int i = 0; i < kCount; ++i) packet.at[i] = value;
  for (int64_t first = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kCount; first < n;
       first += int64_t{gridDim.x} * blockDim.x * kCount) {
    if (n - first >= kCount) {
      *reinterpret_cast<Packet<T, kCount>*>(y + first) = packet;
    } else {
      for (int64_t i = first; i < n; ++i) y[i] = value;
    }
  }
}

// Product and sum each rounded, as on the host: the compiler must not contract them.
template <class T>
__global__ void __launch_bounds__(kThreads) arangeKernel(T* y, int64_t n, double start, double step) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    y[i] = convertElement<T>(__dadd_rn(start, __dmul_rn(static_cast<double>(i), step)));
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) eyeKernel(T* y, int64_t n, Divisor byColumns, T one) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    int64_t row = i;
    y[i] = byColumns.take(row) == row ? one : T(0);
  }
}

}  // namespace

void CudaBackend::fill(const Tensor& out, double value) {
  if (out.numel() == 0) return;
  const uint64_t bits = elementBits(out.dtype(), value);
  dispatchBits(out.dtype(), [&]<class T>() {
    launchKernel(runtime_, fillKernel<T>, gridFor(runtime_, out.numel(), kPacketBytes / sizeof(T)), out.data<T>(),
                 out.numel(), static_cast<T>(bits));
  });
}

void CudaBackend::arange(const Tensor& out, double start, double step) {
  if (out.numel() == 0) return;
  dispatchAll(out.dtype(), [&]<class T>() {
    launchKernel(runtime_, arangeKernel<T>, gridFor(runtime_, out.numel()), out.data<T>(), out.numel(), start, step);
  });
}

void CudaBackend::eye(const Tensor& out) {
  if (out.numel() == 0) return;
  const uint64_t one = elementBits(out.dtype(), 1);
  dispatchBits(out.dtype(), [&]<class T>() {
    launchKernel(runtime_, eyeKernel<T>, gridFor(runtime_, out.numel()), out.data<T>(), out.numel(),
                 Divisor(out.shape()[1], out.numel()), static_cast<T>(one));
  });
}

}  // namespace flowmap::cuda
