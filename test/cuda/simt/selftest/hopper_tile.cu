// Tiles of all widths that attention has, against plain loops: the ladder's fourth rung. All numbers are small
// integers, so results are exact.
#include "../../conformance/hopper_tile.cuh"

#include "check.cuh"

using namespace hopper_kernels;
using selftest::Device;

namespace {

constexpr int kHeads = 2, kTokens = 100, kToken = 64;  // the tile of queries goes beyond the end

template <class T, int Depth, int Keys>
bool run() {
  selftest::Random random;
  std::vector<T> q(kHeads * kTokens * Depth), k(kHeads * kTokens * Depth);
  for (T& each : q) each = T(float(int(random.bits() >> 8) % 2));
  for (T& each : k) each = T(float(int(random.bits() >> 8) % 5 == 0));
  Device<T> queries(q), keys(k), stored(q.size());
  Device<float> out(3 * 64 * Depth);
  const int panel = Tile<64, Depth>::kPanelColumns, swizzle = Tile<64, Depth>::kSwizzle;
  const CUtensorMap queryMap = tensorMap(queries.data, {Depth, kTokens, kHeads}, {panel, 64, 1}, swizzle);
  const CUtensorMap keyMap = tensorMap(keys.data, {Depth, kTokens, kHeads}, {panel, Keys, 1}, swizzle);
  const CUtensorMap outMap = tensorMap(stored.data, {Depth, kTokens, kHeads}, {panel, 64, 1}, swizzle);
  const auto kernel = attend<T, Depth, Keys>;
  const int bytes = attendBytes<Depth, Keys>(), head = 1;
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  kernel<<<1, 128, bytes>>>(queryMap, keyMap, outMap, head, kToken, out.data);
  const std::vector<float> got = out.read();
  const std::vector<T> result = stored.read();

  const auto at = [&](const std::vector<T>& from, int token, int c) {
    return token < kTokens ? float(from[(head * kTokens + token) * Depth + c]) : 0.0f;
  };
  std::vector<float> scores(64 * Keys);
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < Keys; ++j) {
      for (int c = 0; c < Depth; ++c) scores[i * Keys + j] += at(q, kToken + i, c) * at(k, j, c);
    }
  }
  bool right = true;
  for (int i = 0; i < 64; ++i) {
    for (int c = 0; c < Depth; ++c) {
      float o = 0, transposed = 0;
      for (int j = 0; j < Keys; ++j) o += scores[i * Keys + j] * at(k, j, c);
      for (int r = 0; r < 64; ++r) transposed += scores[r * Keys + i] * at(q, kToken + r, c);
      right &= got[i * Depth + c] == o && got[(64 + i) * Depth + c] == o && got[(128 + i) * Depth + c] == transposed;
      if (kToken + i < kTokens) right &= float(result[(head * kTokens + kToken + i) * Depth + c]) == float(T(o));
    }
  }
  // Nothing else is written.
  for (int i = 0; i < kTokens * Depth; ++i) right &= float(result[i]) == 0;
  return right;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"depth64", run<__nv_bfloat16, 64, 128>},
                             {"depth80", run<__half, 80, 64>},
                             {"depth96", run<__nv_bfloat16, 96, 112>},
                             {"depth112", run<__half, 112, 80>},
                             {"depth128", run<__nv_bfloat16, 128, 64>},
                             {"depth128float16", run<__half, 128, 96>}},
                            count, arguments);
}
