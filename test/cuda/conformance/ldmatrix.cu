// ldmatrix.cuh: every number of tiles, plain and transposed, rows in a shuffled order; movmatrix.
#include "cuda/ptx/ldmatrix.cuh"

#include "record.cuh"

namespace conformance {

using namespace flowmap::cuda::ptx;

namespace {

template <int Tiles, bool Transposed>
__global__ void load(const uint32_t* in, uint32_t* out) {
  __shared__ uint4 rows[32];
  rows[threadIdx.x] = reinterpret_cast<const uint4*>(in)[threadIdx.x];
  __syncwarp();
  uint32_t fragments[Tiles];
  ldmatrix<Transposed>(fragments, rows + (threadIdx.x * 5 + 3) % 32);
  for (int m = 0; m < Tiles; ++m) out[m * 32 + threadIdx.x] = fragments[m];
}

__global__ void move(const uint32_t* in, uint32_t* out) { out[threadIdx.x] = movmatrix(in[threadIdx.x]); }

void record(const char* name, void (*kernel)(const uint32_t*, uint32_t*), size_t tiles) {
  const Words in(Random(2).words(128)), out(32 * tiles);
  kernel<<<1, 32>>>(in.data(), out.data());
  out.record(name);
}

}  // namespace

void recordTiles() {
  record("ldmatrix<false>[1]", load<1, false>, 1);
  record("ldmatrix<false>[2]", load<2, false>, 2);
  record("ldmatrix<false>[4]", load<4, false>, 4);
  record("ldmatrix<true>[1]", load<1, true>, 1);
  record("ldmatrix<true>[2]", load<2, true>, 2);
  record("ldmatrix<true>[4]", load<4, true>, 4);
  record("movmatrix", move, 1);
}

}  // namespace conformance
