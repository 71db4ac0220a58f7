// A warp-specialised kernel as attention's are (a producer warp that brings tiles by TMA, a warpgroup that multiplies
// them by wgmma, a second product through shared memory, a store by TMA), and what is commonly forgotten in one. Lines
// that a report must name are marked with the cases that must name them.
#include "../../conformance/hopper_tensors.cuh"
#include "check.cuh"
#include "cuda/hopper/wgmma_products.cuh"
#include "cuda/ptx/barrier.cuh"

using namespace flowmap::cuda::hopper;
using flowmap::cuda::ptx::barrierSync;
using hopper_kernels::swizzledByte;
using hopper_kernels::tensorMap;
using selftest::Device;
using Bf = __nv_bfloat16;

namespace {

enum class Bug {
  none,
  noInitBarrier,
  noInitFence,
  noEmptyWait,
  noFullWait,
  fewBytes,
  manyBytes,
  wrongParity,
  overArrival,
  uninitialised,
  noWgmmaFence,
  noWgmmaWait,
  earlyRelease,
  noProxyFence,
  noNamedBarrier,
  warpLeftOut,
  storeWithoutProxyFence,
  overwriteOfSource,
  storeNotAwaited,
  readAfterReadWait,
  misalignedTile,
  wrongRank,
  swappedCoordinates,
  wrongMajor,
};

constexpr int kTile = 64, kTiles = 5, kStages = 2, kTileBytes = kTile * kTile * 2;

struct Shared {
  alignas(1024) unsigned char tiles[kStages][kTileBytes];
  alignas(1024) unsigned char sums[kTileBytes];
  Mbarrier full[kStages], empty[kStages], lost;
};

__device__ uint64_t descriptorOf(const void* tile, int step) {
  return matrixDescriptor<128>(sharedAddress(tile) + 32 * step, 0, 1024);
}

template <Bug bug>
__device__ void produce(Shared& shared, const CUtensorMap* map) {
  for (int tile = 0; tile < kTiles; ++tile) {
    const int stage = tile % kStages;
    const uint32_t parity = tile / kStages % 2;
    if (bug != Bug::noEmptyWait) mbarrierWait(&shared.empty[stage], parity ^ 1);  // [fewBytes] [manyBytes]
    const uint32_t bytes = kTileBytes + (bug == Bug::fewBytes ? -1024 : bug == Bug::manyBytes ? 1024 : 0);
    mbarrierArriveExpect(&shared.full[stage], bytes);  // [noEmptyWait]
    const Box<2> box = bug == Bug::swappedCoordinates ? Box<2>{{tile * kTile, 0}} : Box<2>{{0, tile * kTile}};
    Mbarrier* const barrier = bug == Bug::uninitialised ? &shared.lost : &shared.full[stage];
    unsigned char* const to = shared.tiles[stage] + (bug == Bug::misalignedTile ? 128 : 0);
    if (bug == Bug::wrongRank) {
      tmaLoad(to, map, Box<3>{{0, 0, 0}}, barrier);  // [wrongRank]
    } else {
      // [noInitFence] [noFullWait] [wrongParity] [noWgmmaWait] [earlyRelease] [uninitialised] [misalignedTile]
      tmaLoad(to, map, box, barrier);
    }
  }
}

// The second product, of what lies in shared memory.
__device__ void square(const void* sums, float* squares) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float d[32];
  for (int j = 0; j < 32; ++j) d[j] = 0;
  holdRegisters(d);
  wgmmaFence();
  for (int step = 0; step < 4; ++step) {
    const uint64_t x = descriptorOf(sums, step);
    wgmma<Bf, Major::k, Major::k>(d, x, x, step > 0);  // [noProxyFence] [noNamedBarrier]
  }
  wgmmaCommit();
  wgmmaWait<0>();
  holdRegisters(d);
  for (int j = 0; j < 32; ++j) {
    squares[(16 * warp + lane / 4 + j / 2 % 2 * 8) * kTile + j / 4 * 8 + lane % 4 * 2 + j % 2] = d[j];
  }
}

template <Bug bug>
__device__ void consume(Shared& shared, const CUtensorMap* sumMap, float* squares, float* other) {
  const int t = threadIdx.x, lane = t % 32, warp = t / 32;
  float d[32];
  for (int j = 0; j < 32; ++j) d[j] = 0;
  // X Xᵀ, summed over the tiles.
  for (int tile = 0; tile < kTiles; ++tile) {
    const int stage = tile % kStages;
    const uint32_t parity = tile / kStages % 2 ^ (bug == Bug::wrongParity);
    if (bug != Bug::noFullWait) mbarrierWait(&shared.full[stage], parity);  // [noInitBarrier] [fewBytes] [manyBytes]
    holdRegisters(d);
    if (bug != Bug::noWgmmaFence) wgmmaFence();
    for (int step = 0; step < 4; ++step) {
      const uint64_t x = descriptorOf(shared.tiles[stage], step);
      if (bug == Bug::warpLeftOut && tile == 2 && warp == 3) continue;
      constexpr Major kB = bug == Bug::wrongMajor ? Major::mn : Major::k;
      // [noFullWait] [wrongParity] [noWgmmaFence] [noWgmmaWait] [earlyRelease] [warpLeftOut]
      wgmma<Bf, Major::k, kB>(d, x, x, true);
    }
    wgmmaCommit();
    if (bug == Bug::earlyRelease) mbarrierArrive(&shared.empty[stage]);
    if (bug != Bug::noWgmmaWait) wgmmaWait<0>();
    holdRegisters(d);
    if (bug != Bug::earlyRelease) mbarrierArrive(&shared.empty[stage]);
    if (bug == Bug::overArrival) mbarrierArriveMany(&shared.empty[stage], 128);  // [overArrival]
  }
  // The sums, rounded, become an operand and a result.
  for (int j = 0; j < 32; j += 2) {
    const int row = 16 * warp + lane / 4 + j / 2 % 2 * 8, column = j / 4 * 8 + lane % 4 * 2;
    const __nv_bfloat162 pair = __floats2bfloat162_rn(d[j], d[j + 1]);
    void* const at = shared.sums + swizzledByte(row * 128 + column * 2, 128);
    *static_cast<__nv_bfloat162*>(at) = pair;  // [noProxyFence] [noNamedBarrier] [storeWithoutProxyFence]
  }
  if (bug != Bug::noProxyFence && bug != Bug::storeWithoutProxyFence) fenceProxyAsync();
  if (bug != Bug::noNamedBarrier) barrierSync<128>(1);
  if (bug == Bug::storeWithoutProxyFence || bug == Bug::overwriteOfSource || bug == Bug::readAfterReadWait ||
      bug == Bug::storeNotAwaited || bug == Bug::none) {
    if (t == 0) {
      // [storeWithoutProxyFence] [overwriteOfSource] [storeNotAwaited] [readAfterReadWait]
      tmaStore(sumMap, Box<2>{{0, 0}}, shared.sums);
      bulkCommit();
      if (bug == Bug::readAfterReadWait) {
        bulkWaitRead<0>();
        squares[0] = other[0];  // [readAfterReadWait]
      }
      if (bug == Bug::overwriteOfSource) *reinterpret_cast<int*>(shared.sums) = 0;  // [overwriteOfSource]
      if (bug != Bug::storeNotAwaited) bulkWaitRead<0>();
    }
  }
  if (bug != Bug::storeNotAwaited) square(shared.sums, squares);
}

template <Bug bug>
__global__ void __launch_bounds__(160)
    pipeline(const __grid_constant__ CUtensorMap map, const __grid_constant__ CUtensorMap sumMap, float* squares,
             float* other) {
  extern __shared__ __align__(1024) unsigned char memory[];
  Shared& shared = *reinterpret_cast<Shared*>(memory);
  if (threadIdx.x == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      mbarrierInit(&shared.full[stage], 1);  // [noInitBarrier] [noInitFence]
      mbarrierInit(&shared.empty[stage], 128);
    }
    if (bug != Bug::noInitFence) fenceMbarrierInit();
  }
  if (bug != Bug::noInitBarrier) __syncthreads();
  if (threadIdx.x >= 128) {
    if (electOne()) produce<bug>(shared, &map);
  } else {
    consume<bug>(shared, &sumMap, squares, other);
  }
}

template <Bug bug>
bool run() {
  selftest::Random random;
  std::vector<Bf> x(kTiles * kTile * kTile);
  std::vector<float> values;
  for (Bf& each : x) values.push_back(float(int(random.bits() % 3) - 1)), each = __float2bfloat16(values.back());
  Device<Bf> source(x), sums(kTile * kTile);
  Device<float> squares(kTile * kTile);
  const CUtensorMap map = tensorMap(source.data, {kTile, kTiles * kTile}, {kTile, kTile}, 128);
  const CUtensorMap sumMap = tensorMap(sums.data, {kTile, kTile}, {kTile, kTile}, 128);
  pipeline<bug><<<1, 160, sizeof(Shared)>>>(map, sumMap, squares.data, reinterpret_cast<float*>(sums.data));
  const std::vector<float> got = squares.read();
  std::vector<float> products(kTile * kTile);
  for (int tile = 0; tile < kTiles; ++tile) {
    const float* t = values.data() + tile * kTile * kTile;
    for (int i = 0; i < kTile; ++i) {
      for (int j = 0; j < kTile; ++j) {
        for (int k = 0; k < kTile; ++k) products[i * kTile + j] += t[i * kTile + k] * t[j * kTile + k];
      }
    }
  }
  const std::vector<Bf> stored = sums.read();
  bool right = true;
  for (int i = 0; i < kTile * kTile; ++i) {
    float sum = 0;
    for (int k = 0; k < kTile; ++k) sum += products[i / kTile * kTile + k] * products[i % kTile * kTile + k];
    right &= got[i] == sum && (bug != Bug::none || __bfloat162float(stored[i]) == products[i]);
  }
  return right;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"pipeline", run<Bug::none>},
                             {"noInitBarrier", run<Bug::noInitBarrier>},
                             {"noInitFence", run<Bug::noInitFence>},
                             {"noEmptyWait", run<Bug::noEmptyWait>},
                             {"noFullWait", run<Bug::noFullWait>},
                             {"fewBytes", run<Bug::fewBytes>},
                             {"manyBytes", run<Bug::manyBytes>},
                             {"wrongParity", run<Bug::wrongParity>},
                             {"overArrival", run<Bug::overArrival>},
                             {"uninitialised", run<Bug::uninitialised>},
                             {"noWgmmaFence", run<Bug::noWgmmaFence>},
                             {"noWgmmaWait", run<Bug::noWgmmaWait>},
                             {"earlyRelease", run<Bug::earlyRelease>},
                             {"noProxyFence", run<Bug::noProxyFence>},
                             {"noNamedBarrier", run<Bug::noNamedBarrier>},
                             {"warpLeftOut", run<Bug::warpLeftOut>},
                             {"storeWithoutProxyFence", run<Bug::storeWithoutProxyFence>},
                             {"overwriteOfSource", run<Bug::overwriteOfSource>},
                             {"storeNotAwaited", run<Bug::storeNotAwaited>},
                             {"readAfterReadWait", run<Bug::readAfterReadWait>},
                             {"misalignedTile", run<Bug::misalignedTile>},
                             {"wrongRank", run<Bug::wrongRank>},
                             {"swappedCoordinates", run<Bug::swappedCoordinates>},
                             {"wrongMajor", run<Bug::wrongMajor>}},
                            count, arguments);
}
