// A kernel of tiles, as attention uses them: scores, their product with values from registers and from shared memory, a
// product with their transpose, and a result that goes out by TMA. For the emulator's tests and for conformance.
#pragma once

#include "cuda/hopper/tile.cuh"
#include "hopper_tensors.cuh"

namespace hopper_kernels {

using namespace flowmap::cuda::hopper;

/** Outputs: O = (Q Kᵀ) V twice (64 × Depth each), then (Q Kᵀ)ᵀ Q (64 keys × Depth). Maps: [head][token][Depth]. */
template <class T, int Depth, int Keys>
__global__ void __launch_bounds__(128)
    attend(const __grid_constant__ CUtensorMap queryMap, const __grid_constant__ CUtensorMap keyMap,
           const __grid_constant__ CUtensorMap outMap, int head, int token, float* out) {
  using Queries = Tile<64, Depth>;
  using KeyTile = Tile<Keys, Depth>;
  using Scores = Tile<64, Keys>;
  extern __shared__ __align__(1024) unsigned char memory[];
  unsigned char* const queries = memory;
  unsigned char* const keys = queries + (Queries::kBytes + 1023) / 1024 * 1024;
  unsigned char* const scores = keys + (KeyTile::kBytes + 1023) / 1024 * 1024;
  __shared__ Mbarrier full;
  if (threadIdx.x == 0) {
    mbarrierInit(&full, 1);
    fenceMbarrierInit();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    mbarrierArriveExpect(&full, Queries::kBytes + KeyTile::kBytes);
    tileLoad<Queries>(queries, &queryMap, Box<3>{{0, token, head}}, &full);
    tileLoad<KeyTile>(keys, &keyMap, Box<3>{{0, 0, head}}, &full);
  }
  mbarrierWait(&full, 0);
  float s[Keys / 2];
  for (float& each : s) each = 0;
  holdRegisters(s);
  wgmmaFence();
  multiplyTransposed<T, Queries, KeyTile>(s, queries, 0, keys, false);
  wgmmaCommit();
  wgmmaWait<0>();
  holdRegisters(s);
  uint32_t p[Keys / 16][4];
  toOperand<T>(p, s);
  storeOperand<Scores>(scores, 0, p);
  fenceProxyAsync();
  __syncthreads();
  // The keys are the values, too.
  float fromRegisters[Depth / 2], fromMemory[Depth / 2], transposed[Depth / 2];
  for (int j = 0; j < Depth / 2; ++j) fromRegisters[j] = fromMemory[j] = transposed[j] = 0;
  holdRegisters(fromRegisters), holdRegisters(fromMemory), holdRegisters(transposed);
  wgmmaFence();
  multiply<T, KeyTile>(fromRegisters, p, keys, false);
  wgmmaCommit();
  multiply<T, Scores, KeyTile>(fromMemory, scores, 0, keys, false);
  multiplyOfTransposed<T, Scores, Queries>(transposed, scores, 0, queries, false);
  wgmmaCommit();
  wgmmaWait<1>();
  holdRegisters(fromRegisters);
  for (int j = 0; j < Depth / 2; ++j) out[accumulatorRow(j) * Depth + accumulatorColumn(j)] = fromRegisters[j];
  wgmmaWait<0>();
  holdRegisters(fromMemory), holdRegisters(transposed);
  for (int j = 0; j < Depth / 2; ++j) {
    const int at = accumulatorRow(j) * Depth + accumulatorColumn(j);
    out[64 * Depth + at] = fromMemory[j];
    out[2 * 64 * Depth + at] = transposed[j];
  }
  // What was read is over for all: the queries' place becomes the result's.
  __syncthreads();
  uint32_t rounded[Depth / 16][4];
  toOperand<T>(rounded, fromRegisters);
  storeOperand<Queries>(queries, 0, rounded);
  fenceProxyAsync();
  __syncthreads();
  if (threadIdx.x == 0) {
    tileStore<Queries>(&outMap, Box<3>{{0, token, head}}, queries);
    bulkCommit();
    bulkWaitRead<0>();
  }
}

template <int Depth, int Keys>
constexpr int attendBytes() {
  using namespace flowmap::cuda::hopper;
  return (Tile<64, Depth>::kBytes + 1023) / 1024 * 1024 + (Tile<Keys, Depth>::kBytes + 1023) / 1024 * 1024 +
         Tile<64, Keys>::kBytes;
}

}  // namespace hopper_kernels
