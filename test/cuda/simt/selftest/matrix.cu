// ldmatrix, movmatrix and mma in all their forms, against their definitions computed on the host. Values are such that
// every sum is exact, so that the order of additions does not matter.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "check.cuh"
#include "cuda/ptx/ldmatrix.cuh"
#include "cuda/ptx/mma.cuh"

using namespace flowmap::cuda::ptx;

namespace {

// ---- tiles ----

template <int Tiles, bool Transposed>
__global__ void load(const uint16_t* in, uint32_t* out) {
  __shared__ alignas(16) uint16_t tiles[4 * 64];
  for (int i = threadIdx.x; i < 4 * 64; i += 32) tiles[i] = in[i];
  __syncwarp();
  uint32_t fragments[Tiles];
  ldmatrix<Transposed>(fragments, tiles + threadIdx.x * 8);
  for (int m = 0; m < Tiles; ++m) out[m * 32 + threadIdx.x] = fragments[m];
}

template <int Tiles, bool Transposed>
bool runLoad() {
  std::vector<uint16_t> in(4 * 64);
  for (size_t i = 0; i < in.size(); ++i) in[i] = uint16_t(257 * i + 5);
  selftest::Device<uint16_t> source(in);
  selftest::Device<uint32_t> out(Tiles * 32);
  load<Tiles, Transposed><<<1, 32>>>(source.data, out.data);
  const std::vector<uint32_t> results = out.read();
  for (int m = 0; m < Tiles; ++m) {
    for (int lane = 0; lane < 32; ++lane) {
      const auto element = [&](int row, int column) {
        return uint32_t(Transposed ? in[m * 64 + column * 8 + row] : in[m * 64 + row * 8 + column]);
      };
      const int row = lane / 4, column = lane % 4 * 2;
      if (results[m * 32 + lane] != (element(row, column) | element(row, column + 1) << 16)) return false;
    }
  }
  return true;
}

__global__ void move(const uint32_t* in, uint32_t* out) { out[threadIdx.x] = movmatrix(in[threadIdx.x]); }

bool runMove() {
  std::vector<uint32_t> in(32);
  for (uint32_t i = 0; i < 32; ++i) in[i] = 2 * i | (2 * i + 1) << 16;  // element (r, c) is 8r + c
  selftest::Device<uint32_t> source(in), out(32);
  move<<<1, 32>>>(source.data, out.data);
  const std::vector<uint32_t> results = out.read();
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const uint32_t row = lane / 4, column = lane % 4 * 2;
    if (results[lane] != (8 * column + row | (8 * (column + 1) + row) << 16)) return false;
  }
  return true;
}

// ---- mma ----

enum class Form { m16n8k16, m16n8k8, m16n8k4 };

template <class T, class Accumulator, int NA, int NB, int ND, Form form>
__global__ void multiply(const uint32_t* a, const uint32_t* b, const Accumulator* c, Accumulator* out) {
  uint32_t fragmentA[NA], fragmentB[NB];
  Accumulator d[ND];
  for (int i = 0; i < NA; ++i) fragmentA[i] = a[threadIdx.x * NA + i];
  for (int i = 0; i < NB; ++i) fragmentB[i] = b[threadIdx.x * NB + i];
  for (int i = 0; i < ND; ++i) d[i] = c[threadIdx.x * ND + i];
  if constexpr (form == Form::m16n8k16) Mma<T>::m16n8k16(d, fragmentA, fragmentB);
  if constexpr (form == Form::m16n8k8) Mma<T>::m16n8k8(d, fragmentA, fragmentB);
  if constexpr (form == Form::m16n8k4) Mma<T>::m16n8k4(d, fragmentA, fragmentB);
  for (int i = 0; i < ND; ++i) out[threadIdx.x * ND + i] = d[i];
}

uint32_t bitsOf(__nv_bfloat16, float x) { return __bfloat16_as_ushort(__float2bfloat16(x)); }
uint32_t bitsOf(__half, float x) { return __half_as_ushort(__float2half(x)); }
uint32_t float32Bits(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}

// Rounded bits below tf32's are not looked at: they are set here to show it.
template <class T>
uint32_t packed(const float* neighbours) {
  if constexpr (std::is_same_v<T, Tf32>)
    return float32Bits(neighbours[0]) | 0x1a5a;
  else
    return bitsOf(T{}, neighbours[0]) | bitsOf(T{}, neighbours[1]) << 16;
}

template <class T, class Accumulator, Form form>
bool runMultiply() {
  constexpr bool isTf32 = std::is_same_v<T, Tf32>, isHalf = std::is_same_v<Accumulator, uint32_t>;
  constexpr int K = form == Form::m16n8k16 ? 16 : form == Form::m16n8k8 ? 8 : 4;
  constexpr int each = isTf32 ? 1 : 2;  // neighbours in k that share a register
  constexpr int NA = 16 * K / 32 / each, NB = 8 * K / 32 / each, ND = isHalf ? 2 : 4;
  selftest::Random random;
  float a[16][16], b[8][16], c[16][8];  // b by column
  for (auto& row : a) {
    for (float& x : row) x = random.sixteenth();
  }
  for (auto& row : b) {
    for (float& x : row) x = random.sixteenth();
  }
  for (auto& row : c) {
    for (float& x : row) x = random.sixteenth();
  }
  std::vector<uint32_t> fragmentsA(32 * NA), fragmentsB(32 * NB);
  std::vector<Accumulator> sums(32 * ND), expected(32 * ND);
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < NA; ++i) fragmentsA[lane * NA + i] = packed<T>(&a[g + i % 2 * 8][t * each + i / 2 * 4 * each]);
    for (int i = 0; i < NB; ++i) fragmentsB[lane * NB + i] = packed<T>(&b[g][t * each + i * 4 * each]);
    for (int i = 0; i < 4; ++i) {
      const int row = g + i / 2 * 8, column = 2 * t + i % 2;
      float sum = c[row][column];
      for (int k = 0; k < K; ++k) sum += a[row][k] * b[column][k];
      if constexpr (isHalf) {
        sums[lane * 2 + i / 2] |= bitsOf(__half{}, c[row][column]) << (i % 2 * 16);
        expected[lane * 2 + i / 2] |= bitsOf(__half{}, sum) << (i % 2 * 16);
      } else {
        sums[lane * 4 + i] = c[row][column];
        expected[lane * 4 + i] = sum;
      }
    }
  }
  selftest::Device<uint32_t> deviceA(fragmentsA), deviceB(fragmentsB);
  selftest::Device<Accumulator> deviceC(sums), out(32 * ND);
  multiply<T, Accumulator, NA, NB, ND, form><<<1, 32>>>(deviceA.data, deviceB.data, deviceC.data, out.data);
  return out.read() == expected;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"ldmatrix.x1", runLoad<1, false>},
                             {"ldmatrix.x2", runLoad<2, false>},
                             {"ldmatrix.x4", runLoad<4, false>},
                             {"ldmatrix.x1.trans", runLoad<1, true>},
                             {"ldmatrix.x2.trans", runLoad<2, true>},
                             {"ldmatrix.x4.trans", runLoad<4, true>},
                             {"movmatrix", runMove},
                             {"mma.m16n8k16.bf16", runMultiply<__nv_bfloat16, float, Form::m16n8k16>},
                             {"mma.m16n8k8.bf16", runMultiply<__nv_bfloat16, float, Form::m16n8k8>},
                             {"mma.m16n8k16.f16", runMultiply<__half, float, Form::m16n8k16>},
                             {"mma.m16n8k8.f16", runMultiply<__half, float, Form::m16n8k8>},
                             {"mma.m16n8k16.f16.f16", runMultiply<__half, uint32_t, Form::m16n8k16>},
                             {"mma.m16n8k8.f16.f16", runMultiply<__half, uint32_t, Form::m16n8k8>},
                             {"mma.m16n8k8.tf32", runMultiply<Tf32, float, Form::m16n8k8>},
                             {"mma.m16n8k4.tf32", runMultiply<Tf32, float, Form::m16n8k4>}},
                            count, arguments);
}
