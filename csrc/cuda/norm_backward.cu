// The backward pass of normalised rows and their tangents, each tensor read once. A block walks down a chunk of the
// rows that share an affine map: its threads own columns, whose sums for the map's gradients they keep in registers; a
// second kernel joins chunks. Cuts and joins depend on the shape alone.
#include <array>

#include "cuda/backend.h"
#include "cuda/launch.cuh"
#include "cuda/norm_rows.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {
namespace {

// Threads of a row: registers for 128 each, and 255 where numbers take two.
template <class T>
constexpr int kMostThreads = sizeof(T) == 8 ? 256 : 512;
constexpr int64_t kEnoughChunks = 1024;  // two blocks or more to each multiprocessor we expect
constexpr int64_t kLeastRows = 16;       // of a chunk, before more blocks are worth their join

// Packets of a row that a thread keeps: 8 elements, whose four sums are 32 registers, or 4 where each has its own
// address.
template <class T, int kCount>
constexpr int kKept = (sizeof(T) == 8 || kCount == 1 ? 4 : 8) / kCount;

enum { kOfGain, kOfShift, kOfTgain, kOfTshift };  // sums over columns

// Tensors a row is read of: its own, then those it shares.
template <bool kTangent>
struct Reads {
  enum { kX, kG, kTx, kH, kGain, kTgain, kTensors };
  static constexpr int kOwn = 4;
};
template <>
struct Reads<false> {
  enum { kX, kG, kGain, kTensors };
  static constexpr int kOwn = 2;
};

template <class T>
struct NormVjpTensors {
  T *gx, *gtx;
  T* columns[4];
  const T *x, *g, *gain, *tx, *h, *tgain;
  bool copies;  // gx = g and gtx = h
};

// Tensors whose rows lie alike: of q, k and v.
template <class T>
struct NormVjpSets {
  NormVjpTensors<T> at[kMostSets];
  int count;
};

// Chunks of rows: of each group of rows that share a map, or, where no columns are summed, of all rows.
struct Chunks {
  int64_t groups, rowsPerGroup, perGroup, rowsPerChunk;
  Divisor byChunks;

  int64_t count() const { return groups * perGroup; }
};

// The sums of a block's groups over their columns, added in the order of the groups: to `partials`, or to the gradients
// of map `owner` where a block has all of its rows.
template <int kCount, int kSteps, int kMaps, class T>
__device__ __forceinline__ void writeColumns(const NormVjpTensors<T>& of, Compute<T>* partials, const NormRows& shape,
                                             int64_t unit, int64_t owner,
                                             Compute<T> (&columns)[kMaps][kSteps][kCount]) {
  using C = Compute<T>;
  __shared__ C shared[kSteps * kCount][kThreads];
  const int lanes = shape.lanes, lane = threadIdx.x % lanes, groups = blockDim.x / lanes;
#pragma unroll
  for (int m = 0; m < kMaps; ++m) {
    if (!of.columns[m]) continue;
    C* partial = partials ? partials + (unit * kMaps + m) * shape.dim : nullptr;
    T* result = of.columns[m] + owner * shape.dim;
    if (groups == 1) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int packet = step * lanes + lane;
        if (packet >= shape.packets) continue;
        if (partial) {
          constexpr int kPart = kCount * sizeof(C) > kPacketBytes ? kPacketBytes / sizeof(C) : kCount;
#pragma unroll
          for (int i = 0; i < kCount; i += kPart) {
            Packet<C, kPart> out;
#pragma unroll
            for (int j = 0; j < kPart; ++j) out.at[j] = columns[m][step][i + j];
            *reinterpret_cast<Packet<C, kPart>*>(partial + packet * kCount + i) = out;
          }
        } else {
          Packet<T, kCount> out;
#pragma unroll
          for (int i = 0; i < kCount; ++i) out.at[i] = static_cast<T>(columns[m][step][i]);
          *reinterpret_cast<Packet<T, kCount>*>(result + packet * kCount) = out;
        }
      }
      continue;
    }
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) shared[step * kCount + i][threadIdx.x] = columns[m][step][i];
    }
    __syncthreads();
    if (threadIdx.x < lanes * kSteps * kCount) {
      const int element = threadIdx.x / lanes, packet = element / kCount * lanes + lane;
      if (packet < shape.packets) {
        C sum = shared[element][lane];
        for (int i = 1; i < groups; ++i) sum += shared[element][i * lanes + lane];
        const int column = packet * kCount + element % kCount;
        if (partial)
          partial[column] = sum;
        else
          result[column] = static_cast<T>(sum);
      }
    }
    __syncthreads();
  }
}

// Without tangents there are g, gx and the first two columns alone. kSteps = 0 reads rows several times and adds to
// columns in `partials`.
template <int kCount, int kSteps, bool kTangent, bool kColumns, class T>
__global__ void __launch_bounds__(kMostThreads<T>, 1)
    normVjpKernel(const __grid_constant__ NormVjpSets<T> sets, Compute<T>* partials,
                  const __grid_constant__ NormRows shape, const __grid_constant__ Chunks chunks) {
  using C = Compute<T>;
  using Out = Packet<T, kCount>;
  using In = Reads<kTangent>;
  constexpr int kTensors = In::kTensors, kValues = kTangent ? 4 : 2, kSums = kTangent ? 5 : 2;
  constexpr int kMaps = kTangent ? 4 : 2, kOwn = kSteps ? kSteps : 1;
  __shared__ WarpTotals<C, kValues> centreWarps;
  __shared__ WarpTotals<C, kSums> warps;
  const C dim = static_cast<C>(shape.dim), eps = static_cast<C>(shape.eps), offset = static_cast<C>(shape.gainOffset);
  const int lane = threadIdx.x % shape.lanes, group = threadIdx.x / shape.lanes, groups = blockDim.x / shape.lanes;
  // x, g ∘ a + h ∘ tgain, tx, h ∘ a with a = offset + gain
  // (`auto& out`: of an array of kValues, nvcc's front end dies.)
  const auto values = [offset](const auto& packets, int i, auto& out) {
    const auto at = [&](int tensor) { return element(packets[tensor], i); };
    const C a = offset + at(In::kGain);
    out[0] = at(In::kX);
    out[1] = at(In::kG) * a;
    if constexpr (kTangent) {
      out[1] += at(In::kH) * at(In::kTgain);
      out[2] = at(In::kTx);
      out[3] = at(In::kH) * a;
    }
  };
  const int64_t units = chunks.groups * chunks.perGroup;
  const NormVjpTensors<T>& of = sets.at[blockIdx.y];
  if (partials) partials += blockIdx.y * units * kMaps * shape.dim;
  for (int64_t unit = blockIdx.x; unit < units; unit += gridDim.x) {
    int64_t owner = unit;
    const int64_t chunk = chunks.byChunks.take(owner), last = min(shape.rows, (owner + 1) * chunks.rowsPerGroup);
    const int64_t first = owner * chunks.rowsPerGroup + chunk * chunks.rowsPerChunk;
    const int64_t end = min(last, first + chunks.rowsPerChunk);
    C columns[kMaps][kOwn][kCount] = {};
    [[maybe_unused]] C* const partial = partials ? partials + unit * kMaps * shape.dim : nullptr;
    for (int64_t begin = first; begin < end; begin += groups) {
      const int64_t row = begin + group;
      const int64_t in = shape.inside(row), at = row * shape.dim, affine = shape.byGroup.divide(row) * shape.dim;
      const auto from = [](const T* tensor, int64_t offset) { return tensor ? tensor + offset : nullptr; };
      RowAddresses<kTensors, T> addresses{};
      addresses.rows[In::kX] = of.x + in;
      addresses.rows[In::kG] = from(of.g, at);
      addresses.rows[In::kGain] = from(of.gain, affine);
      addresses.absent[In::kGain] = 1;
      if constexpr (kTangent) {
        addresses.rows[In::kTx] = from(of.tx, in);
        addresses.rows[In::kH] = from(of.h, at);
        addresses.rows[In::kTgain] = from(of.tgain, affine);
      }
      RowPackets<kTensors, In::kOwn, kCount, kSteps, T> held(addresses, lane, shape.lanes,
                                                             row < end ? shape.packets : 0);

      // Centring is its own transpose: gradients of what is centred come out of cotangents that are.
      Centre<kValues, C> centre;
      if (shape.centered) centre = centreOf<kCount, kValues, C>(held, dim, shape.lanes, values, centreWarps);
      C sums[kSums] = {};
      held.walk([&](int, int64_t, const auto& packets) {
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          C v[kValues];
          values(packets, i, v);
          centre.apply(v);
#pragma unroll
          for (int k = 0; k < kValues; ++k) sums[k] += v[0] * v[k];
          if constexpr (kTangent) sums[4] += v[3] * v[2];
        }
      });
      joinGroup(sums, shape.lanes, Plus<C>(), warps);
      const C r = 1 / sqrt(sums[0] / dim + eps), inG = r * sums[1] / dim;
      C c = 0, inH = 0, along = 0;
      if constexpr (kTangent) {
        c = r * sums[2] / dim;
        inH = r * sums[3] / dim;
        along = sums[4] / dim - 3 * inH * c;
      }

      held.walk([&](int step, int64_t packet, const auto& packets) {
        [[maybe_unused]] Out gxs, gtxs;
#pragma unroll
        for (int i = 0; i < kCount; ++i) {
          C v[kValues];
          values(packets, i, v);
          centre.apply(v);
          const C unit = v[0] * r, g = element(packets[In::kG], i);
          C gx = r * (v[1] - unit * inG);
          C maps[kMaps];
          maps[kOfGain] = g * unit;
          maps[kOfShift] = g;
          if constexpr (kTangent) {
            const C h = element(packets[In::kH], i);
            gx -= r * r * (unit * along + c * v[3] + inH * v[2]);
            gtxs.at[i] = static_cast<T>(r * (v[3] - unit * inH));
            maps[kOfGain] += h * (r * (v[2] - unit * c));
            maps[kOfTgain] = h * unit;
            maps[kOfTshift] = h;
          }
          gxs.at[i] = static_cast<T>(gx);
          if constexpr (kColumns && kSteps > 0) {
#pragma unroll
            for (int m = 0; m < kMaps; ++m) columns[m][step][i] += maps[m];
          } else if constexpr (kColumns) {
            for (int m = 0; m < kMaps && partial; ++m) {
              C& sum = partial[m * shape.dim + packet * kCount + i];
              sum = begin == first ? maps[m] : sum + maps[m];
            }
          }
        }
        if (of.copies) {
          gxs = packets[In::kG];
          if constexpr (kTangent) gtxs = packets[In::kH];
        }
        const int64_t to = in + packet * kCount;
        if (of.gx) *reinterpret_cast<Out*>(of.gx + to) = gxs;
        if constexpr (kTangent) {
          if (of.gtx) *reinterpret_cast<Out*>(of.gtx + to) = gtxs;
        }
      });
    }
    if constexpr (kColumns && kSteps > 0) {
      writeColumns<kCount, kSteps, kMaps>(of, partials, shape, unit, owner, columns);
    }
  }
}

constexpr int kAcross = 32, kDown = 32;

// columns[m][group] = the sum of partials [group][chunk][m][dim] over its chunks.
template <class T>
__global__ void __launch_bounds__(kAcross* kDown)
    joinColumnsKernel(const __grid_constant__ NormVjpSets<T> sets, const Compute<T>* partials, int64_t groups,
                      int64_t chunks, int64_t dim, int maps) {
  using C = Compute<T>;
  __shared__ C shared[kDown][kAcross];
  const int across = threadIdx.x % kAcross, down = threadIdx.x / kAcross;
  const int64_t tiles = (dim + kAcross - 1) / kAcross;
  const NormVjpTensors<T>& of = sets.at[blockIdx.y];
  partials += blockIdx.y * groups * chunks * maps * dim;
  for (int64_t unit = blockIdx.x; unit < groups * maps * tiles; unit += gridDim.x) {
    const int64_t tile = unit % tiles, column = tile * kAcross + across, group = unit / tiles / maps;
    const int m = static_cast<int>(unit / tiles % maps);
    if (!of.columns[m]) continue;
    C sum = 0;
    if (column < dim) {
      const C* from = partials + (group * chunks * maps + m) * dim + column;
#pragma unroll 4
      for (int64_t chunk = down; chunk < chunks; chunk += kDown) sum += from[chunk * maps * dim];
    }
    shared[down][across] = sum;
    __syncthreads();
    if (down == 0 && column < dim) {
      for (int i = 1; i < kDown; ++i) sum += shared[i][across];
      of.columns[m][group * dim + column] = static_cast<T>(sum);
    }
    __syncthreads();
  }
}

Chunks chunksOf(const NormRows& shape, bool columns, int groupsOfThreads) {
  Chunks chunks{1, shape.rows, 1, shape.rows, {}};
  if (columns) chunks = {ceilDiv(shape.rows, shape.rowsPerGroup), shape.rowsPerGroup, 1, shape.rowsPerGroup, {}};
  const int64_t least = columns ? std::max<int64_t>(kLeastRows, 4 * groupsOfThreads) : 4 * groupsOfThreads;
  const int64_t enough = columns ? kEnoughChunks : 16 * kEnoughChunks;
  const int64_t pieces = std::clamp<int64_t>(chunks.rowsPerGroup / least, 1, ceilDiv(enough, chunks.groups));
  chunks.rowsPerChunk = ceilDiv(chunks.rowsPerGroup, pieces);
  chunks.perGroup = ceilDiv(chunks.rowsPerGroup, chunks.rowsPerChunk);
  chunks.byChunks = Divisor(chunks.perGroup, chunks.count());
  return chunks;
}

template <int kCount, int kSteps, bool kTangent, bool kColumns, class T>
void startNormVjp(const Runtime& runtime, Device& device, const NormVjpSets<T>& of, const NormRows& shape,
                  bool columns) {
  using C = Compute<T>;
  constexpr int kMaps = kTangent ? 4 : 2;
  const int threads = shape.lanes <= kWarp ? kThreads : shape.lanes;
  const Chunks chunks = chunksOf(shape, columns, threads / shape.lanes);
  const auto stacked = [&](Grid grid) {
    grid.blocks.y = static_cast<unsigned>(of.count);
    return grid;
  };
  const auto run = [&](C* partials) {
    launchKernel(runtime, normVjpKernel<kCount, kSteps, kTangent, kColumns, T>,
                 stacked(unitGrid(chunks.count(), threads)), of, partials, shape, chunks);
  };
  if (!columns || (kSteps > 0 && chunks.perGroup == 1)) return run(nullptr);
  const Scratch<C> partials(device, of.count * chunks.count() * kMaps * shape.dim);
  run(partials.data());
  const int64_t tiles = chunks.groups * kMaps * ceilDiv(shape.dim, kAcross);
  launchKernel(runtime, joinColumnsKernel<T>, stacked(unitGrid(tiles, kAcross * kDown)), of, partials.data(),
               chunks.groups, chunks.perGroup, shape.dim, kMaps);
}

template <int kCount, class T>
void normVjpOf(const Runtime& runtime, Device& device, const NormVjpSets<T>& of, NormRows shape, bool tangent,
               bool columns) {
  constexpr int kMost = kKept<T, kCount>;
  // Lone elements are read side by side.
  const int64_t wanted = shape.packets <= kWarp && kCount == 1 ? shape.packets : ceilDiv(shape.packets, kMost);
  if (wanted > kMostThreads<T>) {
    shape.lanes = kThreads;
    return startNormVjp<kCount, 0, true, true>(runtime, device, of, shape, columns);
  }
  shape.lanes = wanted <= kWarp ? lanesFor(wanted, kWarp) : static_cast<int>(ceilDiv(wanted, kWarp) * kWarp);
  if (tangent)
    columns ? startNormVjp<kCount, kMost, true, true>(runtime, device, of, shape, true)
            : startNormVjp<kCount, kMost, true, false>(runtime, device, of, shape, false);
  else
    columns ? startNormVjp<kCount, kMost, false, true>(runtime, device, of, shape, true)
            : startNormVjp<kCount, kMost, false, false>(runtime, device, of, shape, false);
}

template <class T>
void setVjp(NormVjpTensors<T>& of, const NormGradients& out, const NormOperands& in, const Tensor& g, const Tensor& h,
            int64_t offset) {
  const auto inside = [offset]<class U>(const Tensor& t, U*) { return t ? t.data<U>() + offset : nullptr; };
  of.gx = inside(out.gx, of.gx);
  of.gtx = inside(out.gtx, of.gtx);
  of.columns[kOfGain] = dataOrNull<T>(out.ggain);
  of.columns[kOfShift] = dataOrNull<T>(out.gshift);
  of.columns[kOfTgain] = dataOrNull<T>(out.gtgain);
  of.columns[kOfTshift] = dataOrNull<T>(out.gtshift);
  of.x = inside(in.x, of.x);
  of.gain = dataOrNull<const T>(in.gain);
  of.h = dataOrNull<const T>(h);
  // What only absent cotangents or results need is not read.
  if (out.gx || out.ggain || out.gshift) of.g = dataOrNull<const T>(g);
  if (h) of.tx = inside(in.tx, of.tx);
  if (h) of.tgain = dataOrNull<const T>(in.tgain);
}

template <class T>
void normVjpSets(const Runtime& runtime, Device& device, const NormVjpSets<T>& sets, const NormLayout& layout,
                 bool hasGain) {
  bool columns = false, tangent = false;
  for (int i = 0; i < sets.count; ++i) {
    const NormVjpTensors<T>& of = sets.at[i];
    columns = columns || std::any_of(of.columns, of.columns + 4, [](const T* column) { return column; });
    tangent = tangent || of.h || of.gtx || of.columns[kOfTgain] || of.columns[kOfTshift];
  }
  constexpr int kCount = kPacketBytes / sizeof(T);
  if (dividesRows(layout, kCount))
    normVjpOf<kCount>(runtime, device, sets, NormRows(layout, hasGain, kCount), tangent, columns);
  else
    normVjpOf<1>(runtime, device, sets, NormRows(layout, hasGain, 1), tangent, columns);
}

}  // namespace

void CudaBackend::normVjp(const NormLayout& layout, const NormGradients& out, const NormOperands& in, const Tensor& g,
                          const Tensor& h) {
  const std::array<Tensor, 4> maps{out.ggain, out.gshift, out.gtgain, out.gtshift};
  const bool columns = std::any_of(maps.begin(), maps.end(), [](const Tensor& map) { return static_cast<bool>(map); });
  if (layout.dim == 0 || (!columns && !out.gx && !out.gtx)) return;
  if (layout.rows == 0) {
    for (const Tensor& map : maps) {
      if (map) fill(map, 0);
    }
    return;
  }
  dispatchFloating(in.x.dtype(), [&]<class T>() {
    NormVjpSets<T> sets{};
    sets.count = 1;
    setVjp(sets.at[0], out, in, g, h, 0);
    normVjpSets(runtime_, in.x.device(), sets, layout, static_cast<bool>(in.gain));
  });
}

void CudaBackend::splitQkvVjp(const QkvLayout& layout, const QkvGradients& out, const QkvOperands& in,
                              const std::array<Tensor, 6>& cotangents) {
  if (layout.tokens == 0) {
    for (const auto* maps : {&out.gweights, &out.gtweights}) {
      for (const Tensor& map : *maps) {
        if (map) fill(map, 0);
      }
    }
  }
  const auto any = [](const std::array<Tensor, 3>& maps) { return maps[0] || maps[1]; };
  if (in.qkv.numel() == 0 || !(out.gqkv || out.gtqkv || any(out.gweights) || any(out.gtweights))) return;
  dispatchFloating(in.qkv.dtype(), [&]<class T>() {
    NormVjpSets<T> sets{};
    sets.count = 3;
    for (int part = 0; part < 3; ++part) {
      setVjp(sets.at[part], {out.gqkv, out.gweights[part], {}, out.gtqkv, out.gtweights[part], {}},
             {in.qkv, in.weights[part], {}, in.tqkv, in.tweights[part], {}}, cotangents[part], cotangents[part + 3],
             layout.rows(part).segmentOffset);
      sets.at[part].copies = !layout.normalizes(part);
    }
    normVjpSets(runtime_, in.qkv.device(), sets, layout.rows(0), false);
  });
}

}  // namespace flowmap::cuda
