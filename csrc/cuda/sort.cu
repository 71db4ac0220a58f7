// A radix sort, eight bits a pass: blocks count the digits of their tiles, one block adds the counts up, blocks move
// their elements, stably. What fits one block's shared memory is sorted there by a bitonic network instead.
#include "cuda/sort.h"

#include <utility>

#include "cuda/launch.cuh"
#include "cuda/scratch.h"

namespace flowmap::cuda {
namespace {

constexpr int kWarp = 32, kWarps = kThreads / kWarp;
constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits;
static_assert(kDigits == kThreads, "a thread per digit");
constexpr int kPerLane = 8, kPerWarp = kPerLane * kWarp, kTile = kPerWarp * kWarps;
constexpr int kSmall = 2048;

__global__ void __launch_bounds__(kThreads) sortSmallKernel(uint64_t* keys, int32_t* values, int n, int padded) {
  __shared__ uint64_t key[kSmall];
  __shared__ int32_t value[kSmall];
  for (int i = threadIdx.x; i < padded; i += kThreads) {
    key[i] = i < n ? keys[i] : ~uint64_t{0};
    value[i] = i < n ? values[i] : INT32_MAX;
  }
  for (int size = 2; size <= padded; size *= 2) {
    for (int distance = size / 2; distance > 0; distance /= 2) {
      __syncthreads();
      for (int pair = threadIdx.x; pair < padded / 2; pair += kThreads) {
        const int low = 2 * pair - (pair & (distance - 1)), high = low + distance;
        const bool swap = key[low] != key[high] ? key[low] > key[high] : value[low] > value[high];
        if (swap == ((low & size) == 0)) {
          const uint64_t k = key[low];
          const int32_t v = value[low];
          key[low] = key[high];
          value[low] = value[high];
          key[high] = k;
          value[high] = v;
        }
      }
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += kThreads) {
    keys[i] = key[i];
    values[i] = value[i];
  }
}

__device__ __forceinline__ int digitOf(uint64_t key, int shift) {
  return static_cast<int>(key >> shift) & (kDigits - 1);
}

// The lanes of the warp that hold the same digit; lanes without an element hold none.
__device__ __forceinline__ unsigned lanesAlike(int digit, bool live) {
  unsigned alike = __ballot_sync(0xffffffffu, live);
#pragma unroll
  for (int bit = 0; bit < kDigitBits; ++bit) {
    const bool set = (digit >> bit) & 1;
    const unsigned with = __ballot_sync(0xffffffffu, set);
    alike &= set ? with : ~with;
  }
  return alike;
}

// counts[digit * tiles + tile]
__global__ void __launch_bounds__(kThreads)
    countDigitsKernel(uint32_t* counts, const uint64_t* keys, int64_t n, int64_t tiles, int shift) {
  __shared__ uint32_t total[kDigits];
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    total[threadIdx.x] = 0;
    __syncthreads();
    const int64_t end = min(n, (tile + 1) * kTile);
    for (int64_t i = tile * kTile + threadIdx.x; i < end; i += kThreads) atomicAdd(&total[digitOf(keys[i], shift)], 1u);
    __syncthreads();
    counts[threadIdx.x * tiles + tile] = total[threadIdx.x];
    __syncthreads();
  }
}

// Each count becomes the sum of those before it. One block: there are few counts.
__global__ void __launch_bounds__(kThreads) scanCountsKernel(uint32_t* counts, int64_t n) {
  constexpr int kEach = 8;
  __shared__ uint32_t warpTotals[kWarps];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  uint32_t before = 0;
  for (int64_t base = 0; base < n; base += kThreads * kEach) {
    uint32_t own[kEach], sum = 0;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int64_t at = base + threadIdx.x * kEach + i;
      own[i] = sum;
      sum += at < n ? counts[at] : 0;
    }
    uint32_t inclusive = sum;
    for (int distance = 1; distance < kWarp; distance *= 2) {
      const uint32_t other = __shfl_up_sync(0xffffffffu, inclusive, distance);
      if (lane >= distance) inclusive += other;
    }
    if (lane == kWarp - 1) warpTotals[warp] = inclusive;
    __syncthreads();
    uint32_t offset = before + inclusive - sum;
    for (int i = 0; i < kWarps; ++i) {
      if (i < warp) offset += warpTotals[i];
      before += warpTotals[i];
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      const int64_t at = base + threadIdx.x * kEach + i;
      if (at < n) counts[at] = offset + own[i];
    }
    __syncthreads();
  }
}

// A warp owns neighbouring elements and takes them a row of lanes at a time, so equal digits keep their order.
__global__ void __launch_bounds__(kThreads)
    moveDigitsKernel(uint64_t* keysOut, int32_t* valuesOut, const uint64_t* keys, const int32_t* values,
                     const uint32_t* starts, int64_t n, int64_t tiles, int shift) {
  __shared__ uint32_t next[kWarps][kDigits];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    for (int i = 0; i < kWarps; ++i) next[i][threadIdx.x] = 0;
    __syncthreads();
    const int64_t first = tile * kTile + warp * kPerWarp + lane;
    uint64_t key[kPerLane];
    unsigned alike[kPerLane];
#pragma unroll
    for (int row = 0; row < kPerLane; ++row) {
      const int64_t at = first + row * kWarp;
      const bool live = at < n;
      key[row] = live ? keys[at] : 0;
      const int digit = digitOf(key[row], shift);
      alike[row] = lanesAlike(digit, live);
      if (live && lane == __ffs(alike[row]) - 1) next[warp][digit] += __popc(alike[row]);
      __syncwarp();
    }
    __syncthreads();
    uint32_t start = starts[threadIdx.x * tiles + tile];
    for (int i = 0; i < kWarps; ++i) {
      const uint32_t count = next[i][threadIdx.x];
      next[i][threadIdx.x] = start;
      start += count;
    }
    __syncthreads();
#pragma unroll
    for (int row = 0; row < kPerLane; ++row) {
      const int64_t at = first + row * kWarp;
      const bool live = at < n;
      const int digit = digitOf(key[row], shift);
      const uint32_t place = next[warp][digit] + __popc(alike[row] & ((1u << lane) - 1));
      __syncwarp();
      if (live && lane == __ffs(alike[row]) - 1) next[warp][digit] += __popc(alike[row]);
      __syncwarp();
      if (live) {
        keysOut[place] = key[row];
        valuesOut[place] = values[at];
      }
    }
    __syncthreads();
  }
}

}  // namespace

void sortPairs(const Runtime& runtime, Device& device, uint64_t* keys, int32_t* values, int64_t n, int bits) {
  if (n < 2) return;
  if (n <= kSmall) {
    int padded = 2;
    while (padded < n) padded *= 2;
    launchKernel(runtime, sortSmallKernel, Grid{dim3(1)}, keys, values, static_cast<int>(n), padded);
    return;
  }
  const int64_t tiles = (n + kTile - 1) / kTile;
  const Scratch<uint32_t> counts(device, kDigits * tiles);
  const Scratch<uint64_t> otherKeys(device, n);
  const Scratch<int32_t> otherValues(device, n);
  const Grid grid = gridFor(runtime, tiles * kThreads);
  uint64_t *fromKeys = keys, *toKeys = otherKeys.data();
  int32_t *fromValues = values, *toValues = otherValues.data();
  // An even number of passes ends where it began.
  const int passes = (bits + kDigitBits - 1) / kDigitBits, even = passes + passes % 2;
  for (int pass = 0; pass < even; ++pass) {
    const int shift = pass * kDigitBits;
    launchKernel(runtime, countDigitsKernel, grid, counts.data(), fromKeys, n, tiles, shift);
    launchKernel(runtime, scanCountsKernel, Grid{dim3(1)}, counts.data(), kDigits * tiles);
    launchKernel(runtime, moveDigitsKernel, grid, toKeys, toValues, fromKeys, fromValues, counts.data(), n, tiles,
                 shift);
    std::swap(fromKeys, toKeys);
    std::swap(fromValues, toValues);
  }
}

}  // namespace flowmap::cuda
