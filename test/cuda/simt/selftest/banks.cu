// Bank conflicts, counted: a matrix load from rows that share banks takes eight passes, from swizzled rows one.
#include <dlfcn.h>

#include "check.cuh"
#include "cuda/ptx/ldmatrix.cuh"

using namespace flowmap::cuda::ptx;

namespace {

struct Banks {
  uint64_t matrixPasses, matrixIdeal, scalarPasses, scalarIdeal;
};

Banks counted(const char* kernel) {
  const auto banks = reinterpret_cast<Banks (*)(const char*)>(dlsym(RTLD_DEFAULT, "simtBanks"));
  return banks ? banks(kernel) : Banks{};
}

void countFromNow() {
  const auto count = reinterpret_cast<void (*)(int)>(dlsym(RTLD_DEFAULT, "simtCountBanks"));
  if (count) count(1);
}

// Rows of 128 bytes: eight chunks of 16.
template <bool Swizzled>
__global__ void loadTiles(uint32_t* out) {
  __shared__ uint4 rows[32 * 8];
  const auto chunk = [](int row, int column) { return row * 8 + (Swizzled ? column ^ row % 8 : column); };
  const int lane = threadIdx.x;
  for (int column = 0; column < 8; ++column) rows[chunk(lane, column)] = make_uint4(lane, column, 0, 0);
  __syncwarp();
  uint32_t fragments[4];
  ldmatrix(fragments, &rows[chunk(lane, 3)]);
  out[lane] = fragments[0] + fragments[1] + fragments[2] + fragments[3];
}

template <int Stride>
__global__ void readStrided(uint32_t* out) {
  __shared__ uint32_t words[32 * Stride];
  words[threadIdx.x * Stride] = threadIdx.x;
  __syncwarp();
  out[threadIdx.x] = words[(31 - threadIdx.x) * Stride];
}

__global__ void readBroadcast(uint32_t* out) {
  __shared__ uint32_t words[32];
  words[threadIdx.x] = threadIdx.x;
  __syncwarp();
  out[threadIdx.x] = words[7];
}

Banks run(void (*kernel)(uint32_t*), const char* name) {
  selftest::Device<uint32_t> out(32);
  countFromNow();
  kernel<<<1, 32>>>(out.data);
  cudaDeviceSynchronize();
  return counted(name);
}

// Four tiles; 16-byte stores of a warp go in four phases.
bool plainTiles() {
  const Banks banks = run(loadTiles<false>, "loadTiles");
  return banks.matrixIdeal == 4 && banks.matrixPasses == 32 && banks.scalarIdeal == 32 && banks.scalarPasses == 256;
}

bool swizzledTiles() {
  const Banks banks = run(loadTiles<true>, "loadTiles");
  return banks.matrixIdeal == 4 && banks.matrixPasses == 4 && banks.scalarIdeal == 32 && banks.scalarPasses == 32;
}

template <int Stride, int Passes>
bool strided() {
  const Banks banks = run(readStrided<Stride>, "readStrided");
  return banks.scalarIdeal == 2 && banks.scalarPasses == 2 * Passes;
}

bool broadcast() {
  const Banks banks = run(readBroadcast, "readBroadcast");
  return banks.scalarIdeal == 2 && banks.scalarPasses == 2;
}

}  // namespace

int main(int count, char** arguments) {
  return selftest::runCases({{"plainTiles", plainTiles},
                             {"swizzledTiles", swizzledTiles},
                             {"stride1", strided<1, 1>},
                             {"stride2", strided<2, 2>},
                             {"stride32", strided<32, 32>},
                             {"stride33", strided<33, 1>},
                             {"broadcast", broadcast}},
                            count, arguments);
}
