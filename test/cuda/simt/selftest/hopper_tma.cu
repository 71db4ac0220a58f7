// Bulk copies by their definition: boxes of tensors of all ranks, types and swizzles, with what is outside of the
// tensor; stores and sums of the same; plain memory; vectors of atomics; blocks of a cluster.
#include "../../conformance/hopper_tma.cuh"

#include "cluster_launch.cuh"

using namespace hopper_kernels;
using selftest::ClusterLaunch;
using selftest::Device;

namespace {

float toNumber(float x) { return x; }
float toNumber(__half x) { return __half2float(x); }
float toNumber(__nv_bfloat16 x) { return __bfloat162float(x); }
void fromNumber(float& x, float value) { x = value; }
void fromNumber(__half& x, float value) { x = __float2half(value); }
void fromNumber(__nv_bfloat16& x, float value) { x = __float2bfloat16(value); }

template <class T>
std::vector<T> numbers(size_t count) {
  selftest::Random random;
  std::vector<T> values(count);
  for (T& value : values) fromNumber(value, random.sixteenth());
  return values;
}

/** Calls function(index in the box, index in the tensor or -1). */
template <int Rank, class Function>
void forBox(const int (&sizes)[Rank], const int (&box)[Rank], const int (&at)[Rank], int rowElements,
            Function function) {
  int count = 1;
  for (int d = 0; d < Rank; ++d) count *= box[d];
  for (int i = 0; i < count; ++i) {
    int rest = i, stride = 1, index = 0;
    bool inside = true;
    for (int d = 0; d < Rank; ++d) {
      const int c = at[d] + rest % box[d];
      rest /= box[d];
      inside &= c >= 0 && c < sizes[d];
      index += c * stride;
      stride *= d == 0 ? rowElements : sizes[d];
    }
    function(i, inside ? index : -1);
  }
}

enum class Way { load, store, add };

template <class T, int Rank, Way way>
bool run(const int (&sizes)[Rank], const int (&box)[Rank], const int (&at)[Rank], int swizzle) {
  const int row = (sizes[0] * int(sizeof(T)) + 15) / 16 * 16 / int(sizeof(T));
  size_t size = size_t(row), bytes = sizeof(T);
  for (int d = 1; d < Rank; ++d) size *= size_t(sizes[d]);
  for (int d = 0; d < Rank; ++d) bytes *= size_t(box[d]);
  std::vector<T> tensor = numbers<T>(size), boxed(bytes / sizeof(T));
  Device<T> data(tensor);
  const CUtensorMap map = tensorMap(data.data, sizes, box, swizzle);
  Box<Rank> where;
  for (int d = 0; d < Rank; ++d) where.at[d] = at[d];
  const auto inTile = [&](int i) { return swizzledByte(i * int(sizeof(T)), swizzle) / int(sizeof(T)); };
  bool right = true;
  if (way == Way::load) {
    Device<unsigned char> out(bytes);
    load<Rank><<<1, 64>>>(map, where, int(bytes), out.data);
    std::memcpy(boxed.data(), out.read().data(), bytes);
    forBox(sizes, box, at, row, [&](int i, int index) {
      right &= toNumber(boxed[inTile(i)]) == (index < 0 ? 0.0f : toNumber(tensor[index]));
    });
    return right;
  }
  const std::vector<T> source = numbers<T>(boxed.size());
  forBox(sizes, box, at, row, [&](int i, int index) {
    boxed[inTile(i)] = source[i];
    if (index < 0) return;
    fromNumber(tensor[index], toNumber(source[i]) + (way == Way::add ? toNumber(tensor[index]) : 0.0f));
  });
  std::vector<unsigned char> raw(bytes);
  std::memcpy(raw.data(), boxed.data(), bytes);
  Device<unsigned char> in(raw);
  store<Rank, way == Way::add><<<1, 64>>>(map, where, int(bytes), in.data);
  const std::vector<T> got = data.read();
  for (size_t i = 0; i < size; ++i) right &= toNumber(got[i]) == toNumber(tensor[i]);
  return right;
}

template <Way way>
bool runRanks() {
  return run<float, 1, way>({100}, {64}, {-12}, 0) && run<__half, 2, way>({40, 9}, {32, 5}, {24, -2}, 0) &&
         run<__nv_bfloat16, 3, way>({24, 5, 4}, {16, 3, 2}, {8, 3, 3}, 0) &&
         run<float, 4, way>({12, 3, 4, 3}, {8, 2, 2, 2}, {-4, 1, 3, -1}, 0) &&
         run<float, 5, way>({8, 3, 2, 3, 2}, {4, 2, 2, 2, 2}, {4, 2, 0, 1, 1}, 0);
}
template <Way way, int Swizzle>
bool runSwizzle() {
  return run<__nv_bfloat16, 2, way>({70, 20}, {Swizzle / 2, 16}, {3, 6}, Swizzle) &&
         run<float, 3, way>({35, 5, 4}, {Swizzle / 4, 4, 3}, {5, 2, -1}, Swizzle);
}

// ---- plain memory ----

bool runPlain() {
  const std::vector<float> in = numbers<float>(64);
  Device<float> source(in), out(64), sums(in);
  plain<<<1, 64>>>(source.data, out.data, sums.data);
  const std::vector<float> got = out.read(), summed = sums.read();
  bool right = got[0] == -1 && summed[0] == 3 * in[0];
  for (int i = 1; i < 64; ++i) right &= got[i] == 2 * in[i] && summed[i] == 3 * in[i];
  return right;
}

// ---- vectors of atomics ----

bool runVectors() {
  Device<float> sums(8);
  addVectors<<<3, 64>>>(sums.data);
  const float all = 192 * 191 / 2;
  return sums.read() == std::vector<float>{all, 2 * all, 3 * 192, -all, 0, 0, all, 192};
}

// ---- clusters ----

bool runSend() {
  Device<float> out(4 * 32);
  ClusterLaunch{4, 32, 4}(send, out.data);
  const std::vector<float> got = out.read();
  bool right = true;
  for (int i = 0; i < 128; ++i) right &= got[i] == float(100 * ((i / 32 + 3) % 4) + i % 32);
  return right;
}

bool runMulticast() {
  const std::vector<float> in = numbers<float>(24 * 12);
  Device<float> source(in), out(4 * 128);
  const CUtensorMap map = tensorMap(source.data, {24, 12}, {16, 8}, 0);
  ClusterLaunch{4, 32, 4}(multicast, map, out.data);
  const std::vector<float> got = out.read();
  bool right = true;
  for (int block = 0; block < 4; ++block) {
    for (int i = 0; i < 128; ++i) {
      right &= got[block * 128 + i] == (block == 2 ? -1 : in[(2 + i / 16) * 24 + 4 + i % 16]);
    }
  }
  return right;
}

// ---- maps that are refused ----

bool runRefusedMaps() {
  Device<float> data(64 * 64);
  const auto encode = [&](const float* at, uint64_t stride, uint32_t box, int swizzle) {
    const TensorShape<2> shape{{64, 16}, {1, stride}, {box, 4}};
    CUtensorMap map;
    return encodeTensorMap(map, at, shape, swizzle);
  };
  return encode(data.data, 64, 32, 128) == cudaSuccess && encode(data.data + 1, 64, 32, 128) != cudaSuccess &&
         encode(data.data, 66, 32, 128) != cudaSuccess && encode(data.data, 64, 30, 128) != cudaSuccess &&
         encode(data.data, 64, 36, 128) != cudaSuccess && encode(data.data, 64, 260, 0) != cudaSuccess &&
         encode(data.data, 64, 32, 64) != cudaSuccess;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"loadRanks", runRanks<Way::load>},
                             {"storeRanks", runRanks<Way::store>},
                             {"addRanks", runRanks<Way::add>},
                             {"load32", runSwizzle<Way::load, 32>},
                             {"load64", runSwizzle<Way::load, 64>},
                             {"load128", runSwizzle<Way::load, 128>},
                             {"store32", runSwizzle<Way::store, 32>},
                             {"store64", runSwizzle<Way::store, 64>},
                             {"store128", runSwizzle<Way::store, 128>},
                             {"add128", runSwizzle<Way::add, 128>},
                             {"plain", runPlain},
                             {"vectors", runVectors},
                             {"send", runSend},
                             {"multicast", runMulticast},
                             {"refusedMaps", runRefusedMaps}},
                            count, arguments);
}
