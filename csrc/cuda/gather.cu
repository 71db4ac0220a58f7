// Gathering by index, and its transpose: rows added up in the order of their indices, whatever runs first. An index out
// of range is a fault of the device, found by the kernel; nothing is read by it, and NaN is written where floating
// elements belong: what is computed from them before the fault is told must not look right.
#include <cstring>

#include "core/convert_element.h"
#include "cuda/backend.h"
#include "cuda/divisor.h"
#include "cuda/launch.cuh"
#include "cuda/packet.cuh"
#include "cuda/scratch.h"
#include "cuda/sort.h"

namespace flowmap::cuda {
namespace {

// Both go into 32 bits, and the message names both: of a size beyond that, its lower bits.
__host__ __device__ int64_t packIndex(int32_t index, int64_t size) {
  return (size << 32) | static_cast<uint32_t>(index);
}

std::string describeIndex(const Fault& fault) {
  std::ostringstream text;
  text << "indices must be in [0, " << (static_cast<uint64_t>(fault.value) >> 32) << "), got "
       << static_cast<int32_t>(fault.value) << " at position " << fault.position;
  return text.str();
}

struct IndexCheck {
  FaultRecord* fault;
  FaultName name;
  int64_t size;
  __device__ __forceinline__ bool operator()(int32_t index, int64_t position) const {
    if (index >= 0 && index < size) return true;
    raise(fault, FaultKind::IndexOutOfRange, name, packIndex(index, size), position);
    return false;
  }
};

IndexCheck indexCheck(Runtime& runtime, const char* op, const Tensor& out, int64_t size) {
  return {runtime.fault(), runtime.nameFault(op, ErrorCode::Argument, describeIndex, out), size};
}

// For results without elements, whose indices are checked all the same.
__global__ void __launch_bounds__(kThreads)
    checkIndicesKernel(const int32_t* indices, int64_t count, IndexCheck check) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += int64_t{gridDim.x} * blockDim.x) {
    check(indices[i], i);
  }
}

// x [outer, size, inner], indices [count] -> y [outer, count, inner]; inner in units of T
template <class T>
__global__ void __launch_bounds__(kThreads)
    takeKernel(T* y, const T* x, const int32_t* indices, int64_t n, int64_t count, int64_t inner, T missing,
               Divisor byInner, Divisor byCount, IndexCheck check) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    int64_t outer = i;
    const int64_t column = byInner.take(outer), place = byCount.take(outer);
    const int32_t index = indices[place];
    y[i] = check(index, place) ? x[(outer * check.size + index) * inner + column] : missing;
  }
}

// The index of each place as a key to sort by; one that is out of range sorts behind all rows.
__global__ void __launch_bounds__(kThreads)
    placeKeysKernel(uint64_t* keys, int32_t* places, const int32_t* indices, int64_t count, IndexCheck check) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += int64_t{gridDim.x} * blockDim.x) {
    const int32_t index = indices[i];
    keys[i] = static_cast<uint64_t>(check(index, i) ? index : check.size);
    places[i] = static_cast<int32_t>(i);
  }
}

__device__ __forceinline__ int64_t lowerBound(const uint64_t* keys, int64_t count, uint64_t key) {
  int64_t low = 0;
  while (count > 0) {
    const int64_t half = count / 2;
    if (keys[low + half] < key) {
      low += half + 1;
      count -= half + 1;
    } else {
      count = half;
    }
  }
  return low;
}

// g [outer, count, inner] -> y [outer, size, inner]
template <class T>
__global__ void __launch_bounds__(kThreads)
    addPlacesKernel(T* y, const T* g, const uint64_t* keys, const int32_t* places, int64_t n, int64_t count,
                    int64_t inner, Divisor byInner, Divisor bySize) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    int64_t outer = i;
    const int64_t column = byInner.take(outer);
    const uint64_t key = static_cast<uint64_t>(bySize.take(outer));
    double total = 0;
    for (int64_t k = lowerBound(keys, count, key); k < count && keys[k] == key; ++k) {
      total += static_cast<double>(static_cast<Compute<T>>(g[(outer * count + places[k]) * inner + column]));
    }
    y[i] = convertElement<T>(total);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    oneHotKernel(T* y, const int32_t* indices, int64_t n, Divisor byDepth, T one, T missing, IndexCheck check) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += int64_t{gridDim.x} * blockDim.x) {
    int64_t place = i;
    const int64_t column = byDepth.take(place);
    const int32_t index = indices[place];
    const bool known = index >= 0 && index < check.size;
    if (!known && column == 0) check(index, place);
    y[i] = !known ? missing : index == column ? one : T(0);
  }
}

}  // namespace

void CudaBackend::take(const Tensor& out, const Tensor& x, const Tensor& indices, int axis) {
  if (indices.numel() == 0) return;
  const int64_t size = x.shape()[axis], count = indices.numel(), item = static_cast<int64_t>(itemSize(x.dtype()));
  const int64_t inner = x.shape().product(axis + 1, x.rank());
  const IndexCheck check = indexCheck(runtime_, "take", out, size);
  if (out.numel() == 0) {
    return launchKernel(runtime_, checkIndicesKernel, gridFor(runtime_, count), indices.data<const int32_t>(), count,
                        check);
  }
  const int width = commonWidth(item, inner * item);
  const int64_t units = inner * item / width, n = out.numel() * item / width;
  dispatchWidth(width, [&]<class T>() {
    T missing;  // all ones is NaN in every floating type
    std::memset(&missing, isFloating(x.dtype()) ? 0xff : 0, sizeof missing);
    launchKernel(runtime_, takeKernel<T>, gridFor(runtime_, n), out.data<T>(), x.data<const T>(),
                 indices.data<const int32_t>(), n, count, units, missing, Divisor(units, n), Divisor(count, n), check);
  });
}

void CudaBackend::takeVjp(const Tensor& gx, const Tensor& g, const Tensor& indices, int axis) {
  const int64_t size = gx.shape()[axis], count = indices.numel(), n = gx.numel();
  if (count == 0) return fill(gx, 0);
  if (count > INT32_MAX) {
    fail(ErrorCode::Shape, "takeVjp", "indices must have at most ", INT32_MAX, " elements on a CUDA device, got ",
         count);
  }
  const Scratch<uint64_t> keys(gx.device(), count);
  const Scratch<int32_t> places(gx.device(), count);
  launchKernel(runtime_, placeKeysKernel, gridFor(runtime_, count), keys.data(), places.data(),
               indices.data<const int32_t>(), count, indexCheck(runtime_, "takeVjp", gx, size));
  if (n == 0) return;
  const int64_t inner = gx.shape().product(axis + 1, gx.rank());
  int bits = 1;
  while (size >> bits) ++bits;
  sortPairs(runtime_, gx.device(), keys.data(), places.data(), count, bits);
  dispatchFloating(gx.dtype(), [&]<class T>() {
    launchKernel(runtime_, addPlacesKernel<T>, gridFor(runtime_, n), gx.data<T>(), g.data<const T>(), keys.data(),
                 places.data(), n, count, inner, Divisor(inner, n), Divisor(size, n));
  });
}

void CudaBackend::oneHot(const Tensor& out, const Tensor& indices) {
  const int64_t n = out.numel(), depth = out.shape()[-1];
  if (n == 0) return;
  const uint64_t one = elementBits(out.dtype(), 1), missing = isFloating(out.dtype()) ? ~uint64_t{0} : 0;
  dispatchBits(out.dtype(), [&]<class T>() {
    launchKernel(runtime_, oneHotKernel<T>, gridFor(runtime_, n), out.data<T>(), indices.data<const int32_t>(), n,
                 Divisor(depth, n), static_cast<T>(one), static_cast<T>(missing),
                 indexCheck(runtime_, "oneHot", out, depth));
  });
}

}  // namespace flowmap::cuda
