// The ladder for Hopper (csrc/cuda/hopper), on devices of compute capability 9.0: a program of its own, of PTX
// for 9.0a. Prints the device, then every case. Sums are exact, so that all is compared as bits.
#include <cstring>

#include "hopper_barrier.cuh"
#include "hopper_tile.cuh"
#include "hopper_tma.cuh"
#include "hopper_wgmma.cuh"
#include "record.cuh"

namespace conformance {

using namespace hopper_kernels;

namespace {

template <class T>
T* as(const Words& words) {
  return reinterpret_cast<T*>(words.data());
}

/** In clusters of `cluster` blocks. */
template <class... Params, class... Args>
void launchCluster(unsigned blocks, unsigned cluster, void (*kernel)(Params...), Args... args) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {cluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = blocks, config.blockDim = 32;
  config.attrs = &attribute, config.numAttrs = 1;
  check(cudaLaunchKernelEx(&config, kernel, static_cast<Params>(args)...));
}

/** Pairs of 16-bit numbers, multiples of 1/16 in [-4, 4). */
template <class T>
std::vector<uint32_t> pairs(uint64_t seed, size_t count) {
  Random random(seed);
  std::vector<uint32_t> words(count);
  for (uint32_t& word : words) {
    const T two[2] = {T(random.sixteenth()), T(random.sixteenth())};
    std::memcpy(&word, two, sizeof word);
  }
  return words;
}

std::vector<uint32_t> floats(uint64_t seed, size_t count) {
  Random random(seed);
  std::vector<uint32_t> words(count);
  for (uint32_t& word : words) {
    const float value = random.sixteenth();
    std::memcpy(&word, &value, sizeof word);
  }
  return words;
}

void recordMbarriers() {
  const Words in(Random(7).words(7 * 32));
  const Words waits(32), tests(32), states(10), remotes(64), chosen(1);
  ring<false><<<1, 64>>>(as<int>(in), as<int>(waits));
  waits.record("mbarrierInit, mbarrierArrive and mbarrierWait");
  ring<true><<<1, 64>>>(as<int>(in), as<int>(tests));
  tests.record("mbarrierTest");
  counts<<<1, 1>>>(as<int>(states));
  states.record("mbarrierArriveMany, mbarrierExpect, mbarrierArriveExpect and mbarrierInvalidate");
  launchCluster(2, 2, remote<true>, as<int>(remotes));
  remotes.record("fenceMbarrierInit, mbarrierArriveRemote and mbarrierTryWaitCluster");
  roles<<<1, 384>>>(as<int>(chosen));
  chosen.record("electOne, decreaseRegisters and increaseRegisters");
}

// Boxes that begin before their tensor and end after it.
template <class T, int Rank>
void recordBox(const char* load, const char* store, const char* add, const int (&sizes)[Rank], const int (&box)[Rank],
               const int (&at)[Rank], int swizzle, const std::vector<uint32_t>& tensor,
               const std::vector<uint32_t>& values) {
  size_t bytes = sizeof(T);
  Box<Rank> where;
  for (int d = 0; d < Rank; ++d) bytes *= size_t(box[d]), where.at[d] = at[d];
  const Words data(tensor), in(values), out(bytes / 4);
  const CUtensorMap map = tensorMap(as<T>(data), sizes, box, swizzle);
  hopper_kernels::load<Rank><<<1, 64>>>(map, where, int(bytes), as<unsigned char>(out));
  out.record(load);
  if (add) {
    hopper_kernels::store<Rank, true><<<1, 64>>>(map, where, int(bytes), as<unsigned char>(in));
    data.record(add);
  }
  hopper_kernels::store<Rank, false><<<1, 64>>>(map, where, int(bytes), as<unsigned char>(in));
  data.record(store);
}

void recordTensors() {
  using Bf = __nv_bfloat16;
  recordBox<float, 1>("tmaLoad<1>", "tmaStore<1>", "tmaAdd<1>", {100}, {64}, {-12}, 0, floats(1, 100), floats(2, 64));
  recordBox<__half, 2>("tmaLoad<2>", "tmaStore<2>", "tmaAdd<2>", {40, 9}, {32, 5}, {24, -2}, 0, pairs<__half>(3, 180),
                       pairs<__half>(4, 80));
  recordBox<Bf, 3>("tmaLoad<3>", "tmaStore<3>", "tmaAdd<3>", {24, 5, 4}, {16, 3, 2}, {8, 3, 3}, 0, pairs<Bf>(5, 240),
                   pairs<Bf>(6, 48));
  recordBox<float, 4>("tmaLoad<4>", "tmaStore<4>", "tmaAdd<4>", {12, 3, 4, 3}, {8, 2, 2, 2}, {-4, 1, 3, -1}, 0,
                      floats(7, 432), floats(8, 64));
  recordBox<float, 5>("tmaLoad<5>", "tmaStore<5>", "tmaAdd<5>", {8, 3, 2, 3, 2}, {4, 2, 2, 2, 2}, {4, 2, 0, 1, 1}, 0,
                      floats(9, 288), floats(10, 64));
  recordBox<Bf, 2>("tmaLoad, swizzle of 32 bytes", "tmaStore, swizzle of 32 bytes", nullptr, {72, 20}, {16, 16}, {3, 6},
                   32, pairs<Bf>(11, 720), pairs<Bf>(12, 128));
  recordBox<Bf, 2>("tmaLoad, swizzle of 64 bytes", "tmaStore, swizzle of 64 bytes", nullptr, {72, 20}, {32, 16}, {3, 6},
                   64, pairs<Bf>(13, 720), pairs<Bf>(14, 256));
  recordBox<Bf, 2>("tmaLoad, swizzle of 128 bytes", "tmaStore, swizzle of 128 bytes", nullptr, {72, 20}, {64, 16},
                   {13, 6}, 128, pairs<Bf>(15, 720), pairs<Bf>(16, 512));
}

void recordPlain() {
  const Words in(floats(17, 64)), out(64), sums(floats(18, 64)), sent(128), brought(4 * 128), tensor(floats(19, 288));
  plain<<<1, 64>>>(as<float>(in), as<float>(out), as<float>(sums));
  out.record("bulkLoad, bulkStore and bulkWait");
  sums.record("bulkAdd and bulkWaitRead");
  launchCluster(4, 4, hopper_kernels::send, as<float>(sent));
  sent.record("mbarrierArriveExpectRemote and bulkSend");
  const CUtensorMap map = tensorMap(as<float>(tensor), {24, 12}, {16, 8}, 0);
  launchCluster(4, 4, multicast, map, as<float>(brought));
  brought.record("tmaLoadMulticast");
}

template <class T, int N, int Width, Major OfA, Major OfB, bool InRegisters = false, int SignA = 1, int SignB = 1>
void recordProduct(const char* name) {
  const Words a(pairs<T>(20, kRows * kDepth / 2)), b(pairs<T>(21, N * kDepth / 2)), out(kRows * N);
  const int bytes = Layout<kRows, Width, OfA>::kBytes + Layout<N, Width, OfB>::kBytes;
  product<T, N, Width, OfA, OfB, InRegisters, SignA, SignB><<<1, 128, bytes>>>(as<T>(a), as<T>(b), as<float>(out));
  out.record(name);
}

void recordVectors() {
  const Words sums(8);
  addVectors<<<3, 64>>>(as<float>(sums));
  sums.record("addToGlobal of four floats");
}

void recordWgmma() {
  using Bf = __nv_bfloat16;
  constexpr Major kK = Major::k, kMn = Major::mn;
  recordProduct<Bf, 32, 128, kK, kK>("wgmma bfloat16 n32");
  recordProduct<Bf, 64, 128, kK, kK>("wgmma bfloat16 n64, swizzle of 128 bytes");
  recordProduct<Bf, 80, 128, kK, kK>("wgmma bfloat16 n80");
  recordProduct<Bf, 96, 128, kK, kK>("wgmma bfloat16 n96");
  recordProduct<Bf, 112, 128, kK, kK>("wgmma bfloat16 n112");
  recordProduct<Bf, 128, 128, kK, kK>("wgmma bfloat16 n128");
  recordProduct<__half, 32, 64, kK, kMn, true>("wgmma float16 n32, A in registers, B mn-major");
  recordProduct<__half, 64, 128, kK, kMn, true>("wgmma float16 n64, A in registers, B mn-major");
  recordProduct<__half, 80, 128, kK, kMn, true>("wgmma float16 n80, A in registers, B mn-major");
  recordProduct<__half, 96, 128, kK, kMn, true>("wgmma float16 n96, A in registers, B mn-major");
  recordProduct<__half, 112, 128, kK, kMn, true>("wgmma float16 n112, A in registers, B mn-major");
  recordProduct<__half, 128, 128, kK, kMn, true>("wgmma float16 n128, A in registers, B mn-major");
  recordProduct<Bf, 64, 128, kK, kMn>("wgmma, B mn-major, swizzle of 128 bytes");
  recordProduct<Bf, 64, 128, kMn, kK>("wgmma, A mn-major, swizzle of 128 bytes");
  recordProduct<__half, 64, 128, kMn, kMn>("wgmma, both mn-major, swizzle of 128 bytes");
  recordProduct<Bf, 64, 64, kK, kK>("wgmma, swizzle of 64 bytes");
  recordProduct<__half, 64, 64, kMn, kMn>("wgmma, both mn-major, swizzle of 64 bytes");
  recordProduct<Bf, 64, 32, kK, kK>("wgmma, swizzle of 32 bytes");
  recordProduct<__half, 64, 32, kMn, kMn>("wgmma, both mn-major, swizzle of 32 bytes");
  recordProduct<Bf, 64, 128, kK, kK, false, -1, 1>("wgmma, A negated");
  recordProduct<Bf, 64, 128, kK, kK, true, -1, -1>("wgmma, A in registers, both negated");
}

/** Numbers that are 0 or 1. */
template <class T>
std::vector<uint32_t> digits(uint64_t seed, size_t count) {
  Random random(seed);
  std::vector<uint32_t> words(count);
  for (uint32_t& word : words) {
    const T two[2] = {T(float(random.bits() >> 31)), T(float(random.bits() >> 30 == 0))};
    std::memcpy(&word, two, sizeof word);
  }
  return words;
}

template <class T, int Depth, int Keys>
void recordTiles(const char* name, const char* stored) {
  constexpr int kTokens = 100;
  const Words queries(digits<T>(22, kTokens * Depth / 2)), keys(digits<T>(23, kTokens * Depth / 2));
  const Words result(kTokens * Depth / 2), out(3 * 64 * Depth);
  using Queries = Tile<64, Depth>;
  const auto mapOf = [](const Words& words, int rows) {
    return tensorMap(as<T>(words), {Depth, kTokens, 1}, {Queries::kPanelColumns, rows, 1}, Queries::kSwizzle);
  };
  const auto kernel = attend<T, Depth, Keys>;
  const int bytes = attendBytes<Depth, Keys>();
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  kernel<<<1, 128, bytes>>>(mapOf(queries, 64), mapOf(keys, Keys), mapOf(result, 64), 0, 64, as<float>(out));
  out.record(name);
  result.record(stored);
}

void recordAllTiles() {
  recordTiles<__nv_bfloat16, 64, 128>("tileLoad and products, depth 64", "storeOperand and tileStore, depth 64");
  recordTiles<__half, 80, 64>("tileLoad and products, depth 80", "storeOperand and tileStore, depth 80");
  recordTiles<__nv_bfloat16, 96, 112>("tileLoad and products, depth 96", "storeOperand and tileStore, depth 96");
  recordTiles<__half, 128, 96>("tileLoad and products, depth 128", "storeOperand and tileStore, depth 128");
}

}  // namespace

}  // namespace conformance

int main() {
  conformance::recordDevice();
  conformance::recordMbarriers();
  conformance::recordTensors();
  conformance::recordPlain();
  conformance::recordVectors();
  conformance::recordWgmma();
  conformance::recordAllTiles();
  return 0;
}
