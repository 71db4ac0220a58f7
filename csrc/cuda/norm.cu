// RMS and layer normalisation of rows with their affine map, value alone or with its tangent: one launch that reads
// each tensor once.
#include <array>

#include "cuda/backend.h"
#include "cuda/launch.cuh"
#include "cuda/norm_rows.cuh"

namespace flowmap::cuda {
namespace {

// Packets of a row that a thread keeps: a warp has a row of 1280 16-bit floats.
template <class T, int kCount>
constexpr int kKept = kCount == 1 ? (sizeof(T) == 8 ? 8 : 16) : 5;

template <class T>
struct NormTensors {
  T *y, *ty;
  const T *x, *gain, *shift, *tx, *tgain, *tshift;
  bool copies;  // y = x and ty = tx
};

// Tensors whose rows lie alike: q, k and v.
template <class T>
struct NormSets {
  NormTensors<T> at[kMostSets];
  int count;
};

// kSteps = 0: a block to each row, which it reads several times.
template <int kCount, int kSteps, bool kTangent, class T>
__global__ void __launch_bounds__(kThreads, 2)
    normKernel(const __grid_constant__ NormSets<T> sets, const __grid_constant__ NormRows shape) {
  using C = Compute<T>;
  using Out = Packet<T, kCount>;
  constexpr int kTensors = kTangent ? 2 : 1;
  __shared__ WarpTotals<C, kTensors> warps;
  const NormTensors<T>& of = sets.at[blockIdx.y];
  const C dim = static_cast<C>(shape.dim), eps = static_cast<C>(shape.eps), offset = static_cast<C>(shape.gainOffset);
  const int lane = threadIdx.x % shape.lanes, groups = blockDim.x / shape.lanes;
  for (int64_t begin = int64_t{blockIdx.x} * groups; begin < shape.rows; begin += int64_t{gridDim.x} * groups) {
    const int64_t row = begin + threadIdx.x / shape.lanes;
    const int64_t in = shape.inside(row), at = row * shape.dim, affine = shape.byGroup.divide(row) * shape.dim;
    RowAddresses<kTensors, T> from{};
    from.rows[0] = of.x + in;
    if constexpr (kTangent) from.rows[1] = of.tx ? of.tx + in : nullptr;
    RowPackets<kTensors, kTensors, kCount, kSteps, T> held(from, lane, shape.lanes,
                                                           row < shape.rows ? shape.packets : 0);

    // `auto& out`: of an array of kTensors, nvcc's front end dies.
    const auto values = [](const auto& packets, int i, auto& out) {
#pragma unroll
      for (int t = 0; t < kTensors; ++t) out[t] = element(packets[t], i);
    };
    Centre<kTensors, C> centre;
    if (shape.centered) centre = centreOf<kCount, kTensors, C>(held, dim, shape.lanes, values, warps);
    C sums[kTensors] = {};  // of x x, x tx
    held.walk([&](int, int64_t, const auto& packets) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        C v[kTensors];
        values(packets, i, v);
        centre.apply(v);
#pragma unroll
        for (int t = 0; t < kTensors; ++t) sums[t] += v[0] * v[t];
      }
    });
    joinGroup(sums, shape.lanes, Plus<C>(), warps);
    const C r = 1 / sqrt(sums[0] / dim + eps);
    const C c = kTangent ? r * sums[kTensors - 1] / dim : C(0);

    held.walk([&](int, int64_t packet, const auto& packets) {
      const auto map = [&](const T* tensor, double absent) {
        return loadPacketOr<kCount>(tensor ? tensor + affine : nullptr, packet, absent);
      };
      const Out gains = map(of.gain, 1), shifts = map(of.shift, 0);
      [[maybe_unused]] Out ys, tys, tgains, tshifts;
      if constexpr (kTangent) tgains = map(of.tgain, 0), tshifts = map(of.tshift, 0);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        C v[kTensors];
        values(packets, i, v);
        centre.apply(v);
        const C unit = v[0] * r, a = offset + element(gains, i);
        ys.at[i] = static_cast<T>(unit * a + element(shifts, i));
        if constexpr (kTangent) {
          const C u = r * (v[1] - unit * c);
          tys.at[i] = static_cast<T>(u * a + unit * element(tgains, i) + element(tshifts, i));
        }
      }
      if (of.copies) {
        ys = packets[0];
        if constexpr (kTangent) tys = packets[1];
      }
      const int64_t to = at + packet * kCount;
      *reinterpret_cast<Out*>(of.y + to) = ys;
      if constexpr (kTangent) {
        if (of.ty) *reinterpret_cast<Out*>(of.ty + to) = tys;
      }
    });
  }
}

template <int kCount, int kSteps, bool kTangent, class T>
void startNorm(const Runtime& runtime, const NormSets<T>& sets, const NormRows& shape) {
  Grid grid = unitGrid(ceilDiv(shape.rows, kThreads / shape.lanes));
  grid.blocks.y = static_cast<unsigned>(sets.count);
  launchKernel(runtime, normKernel<kCount, kSteps, kTangent, T>, grid, sets, shape);
}

template <int kCount, class T>
void normOf(const Runtime& runtime, const NormSets<T>& of, NormRows shape, bool tangent) {
  constexpr int kMost = kKept<T, kCount>;
  shape.lanes = lanesFor(shape.packets, kWarp);
  if (shape.packets > kThreads * kMost) {
    shape.lanes = kThreads;
    return startNorm<kCount, 0, true>(runtime, of, shape);
  }
  // Packets that no thread has two of, in fewer registers.
  if constexpr (kCount > 1) {
    if (shape.packets <= kWarp) {
      return tangent ? startNorm<kCount, 1, true>(runtime, of, shape) : startNorm<kCount, 1, false>(runtime, of, shape);
    }
  }
  while (shape.lanes * kMost < shape.packets) shape.lanes *= 2;
  return tangent ? startNorm<kCount, kMost, true>(runtime, of, shape)
                 : startNorm<kCount, kMost, false>(runtime, of, shape);
}

template <class T>
void normSets(const Runtime& runtime, const NormSets<T>& sets, const NormLayout& layout, bool hasGain) {
  const bool tangent = std::any_of(sets.at, sets.at + sets.count, [](const NormTensors<T>& of) { return of.ty; });
  constexpr int kCount = kPacketBytes / sizeof(T);
  if (dividesRows(layout, kCount))
    normOf<kCount>(runtime, sets, NormRows(layout, hasGain, kCount), tangent);
  else
    normOf<1>(runtime, sets, NormRows(layout, hasGain, 1), tangent);
}

}  // namespace

void CudaBackend::norm(const NormLayout& layout, const Tensor& y, const Tensor& ty, const NormOperands& in) {
  if (layout.rows == 0 || layout.dim == 0) return;
  dispatchFloating(in.x.dtype(), [&]<class T>() {
    NormSets<T> sets{};
    sets.count = 1;
    sets.at[0] = {y.data<T>(),
                  dataOrNull<T>(ty),
                  in.x.data<const T>(),
                  dataOrNull<const T>(in.gain),
                  dataOrNull<const T>(in.shift),
                  dataOrNull<const T>(in.tx),
                  dataOrNull<const T>(in.tgain),
                  dataOrNull<const T>(in.tshift),
                  false};
    normSets(runtime_, sets, layout, static_cast<bool>(in.gain));
  });
}

void CudaBackend::splitQkv(const QkvLayout& layout, const std::array<Tensor, 6>& out, const QkvOperands& in) {
  if (in.qkv.numel() == 0) return;
  dispatchFloating(in.qkv.dtype(), [&]<class T>() {
    NormSets<T> sets{};
    sets.count = 3;
    for (int part = 0; part < 3; ++part) {
      const int64_t offset = layout.rows(part).segmentOffset;
      NormTensors<T>& of = sets.at[part];
      of.y = out[part].data<T>();
      of.ty = dataOrNull<T>(out[part + 3]);
      of.x = in.qkv.data<const T>() + offset;
      of.tx = in.tqkv ? in.tqkv.data<const T>() + offset : nullptr;
      of.gain = dataOrNull<const T>(in.weights[part]);
      of.tgain = dataOrNull<const T>(in.tweights[part]);
      of.copies = !layout.normalizes(part);
    }
    normSets(runtime_, sets, layout.rows(0), false);
  });
}

}  // namespace flowmap::cuda
