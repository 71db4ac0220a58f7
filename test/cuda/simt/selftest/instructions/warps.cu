// Shuffles, votes, matches, reductions, barriers with reductions, atomics and vector accesses: one block per case.
#include <algorithm>
#include <bit>

#include "compare.cuh"

namespace selftest {
namespace {

constexpr int kThreads = 96;

template <class Case>
__global__ void runThreads(uint32_t* out) {
  out[threadIdx.x] = Case::device(threadIdx.x);
}

/** What each of 96 threads gives, against its definition by thread index. */
template <class Case>
void threads(const char* name) {
  uint32_t* out = upload(std::vector<uint32_t>(kThreads));
  runThreads<Case><<<1, kThreads>>>(out);
  check(cudaGetLastError(), name);
  const std::vector<uint32_t> got = download(out, kThreads);
  cudaFree(out);
  for (uint32_t t = 0; t < kThreads; ++t) {
    if (got[t] == Case::host(t)) continue;
    return report(name, false,
                  "thread " + std::to_string(t) + " gets " + spell(got[t]) + ", not " + spell(Case::host(t)));
  }
  report(name, true);
}

struct ShuffleUp {
  __device__ static uint32_t device(uint32_t t) { return __shfl_up_sync(~0u, t * 3, 5, 16); }
  static uint32_t host(uint32_t t) { return 3 * (t % 16 >= 5 ? t - 5 : t); }
};
struct ShuffleDown {
  __device__ static uint32_t device(uint32_t t) { return __shfl_down_sync(~0u, t * 3, 5, 8); }
  static uint32_t host(uint32_t t) { return 3 * (t % 8 + 5 < 8 ? t + 5 : t); }
};
struct ShuffleXor {
  __device__ static uint32_t device(uint32_t t) { return __shfl_xor_sync(~0u, t * 3, 9); }
  static uint32_t host(uint32_t t) { return 3 * (t ^ 9); }
};
struct ShuffleIndex {
  __device__ static uint32_t device(uint32_t t) { return __shfl_sync(~0u, t * 3, int(t * 7), 16); }
  static uint32_t host(uint32_t t) { return 3 * (t / 16 * 16 + t * 7 % 16); }
};
struct ShufflePart {  // half of the lanes, in a branch
  __device__ static uint32_t device(uint32_t t) { return t % 2 ? __shfl_xor_sync(0xaaaaaaaau, t, 2) : 7; }
  static uint32_t host(uint32_t t) { return t % 2 ? t ^ 2 : 7; }
};
struct ShufflePredicate {
  __device__ static uint32_t device(uint32_t t) {
    uint32_t d;
    asm volatile("{ .reg .pred p; .reg .b32 x; shfl.sync.down.b32 x|p, %1, 4, 31, -1; selp.u32 %0, 1, 0, p; }"
                 : "=r"(d)
                 : "r"(t));
    return d;
  }
  static uint32_t host(uint32_t t) { return t % 32 + 4 < 32; }
};
struct Ballot {
  __device__ static uint32_t device(uint32_t t) { return __ballot_sync(~0u, t % 3 == 0); }
  static uint32_t host(uint32_t t) {
    uint32_t mask = 0;
    for (uint32_t lane = 0; lane < 32; ++lane) mask |= uint32_t((t / 32 * 32 + lane) % 3 == 0) << lane;
    return mask;
  }
};
struct Votes {
  __device__ static uint32_t device(uint32_t t) {
    return uint32_t(__any_sync(~0u, t == 40)) | uint32_t(__all_sync(~0u, t < 64)) << 1 |
           uint32_t(__uni_sync(~0u, t < 40)) << 2;
  }
  static uint32_t host(uint32_t t) {
    const uint32_t warp = t / 32;
    return uint32_t(warp == 1) | uint32_t(warp < 2) << 1 | uint32_t(warp != 1) << 2;
  }
};
struct MatchAny {
  __device__ static uint32_t device(uint32_t t) { return __match_any_sync(~0u, t % 5); }
  static uint32_t host(uint32_t t) {
    uint32_t mask = 0;
    for (uint32_t lane = 0; lane < 32; ++lane) mask |= uint32_t((t / 32 * 32 + lane) % 5 == t % 5) << lane;
    return mask;
  }
};
struct MatchAll {
  __device__ static uint32_t device(uint32_t t) {
    int all;
    const uint32_t mask = __match_all_sync(~0u, uint64_t(t / 64), &all);
    int none;
    __match_all_sync(~0u, t, &none);
    return mask == ~0u && all && !none;
  }
  static uint32_t host(uint32_t) { return 1; }
};
struct ReduceAdd {
  __device__ static uint32_t device(uint32_t t) { return __reduce_add_sync(~0u, t); }
  static uint32_t host(uint32_t t) { return 32 * (t / 32 * 32) + 496; }
};
struct ReduceMinSigned {
  __device__ static uint32_t device(uint32_t t) { return uint32_t(__reduce_min_sync(~0u, 5 - int(t))); }
  static uint32_t host(uint32_t t) { return uint32_t(5 - int(t / 32 * 32 + 31)); }
};
struct CountAtBarrier {
  __device__ static uint32_t device(uint32_t t) {
    return uint32_t(__syncthreads_count(t % 5 == 0)) + 1000 * __syncthreads_and(t < 96) +
           2000 * __syncthreads_or(t == 96);
  }
  static uint32_t host(uint32_t) { return 20 + 1000; }
};
struct EarlyExits {  // whoever has left is not waited for
  __device__ static uint32_t device(uint32_t t) {
    __shared__ uint32_t cells[kThreads];
    cells[t] = t;
    __syncthreads();
    const uint32_t other = cells[kThreads - 1 - t];
    return other;
  }
  static uint32_t host(uint32_t t) { return kThreads - 1 - t; }
};
struct SharedAtomics {
  __device__ static uint32_t device(uint32_t t) {
    __shared__ uint32_t sum, largest, bits, wrapped;
    __shared__ int smallest;
    if (t == 0) sum = largest = bits = wrapped = 0, smallest = 0;
    __syncthreads();
    atomicAdd(&sum, t);
    atomicMax(&largest, t * 5 % 97);
    atomicOr(&bits, 1u << (t % 7));
    atomicMin(&smallest, -int(t));
    atomicInc(&wrapped, 9);
    __syncthreads();
    return sum + largest + bits + uint32_t(smallest) + wrapped;
  }
  static uint32_t host(uint32_t) { return 96 * 95 / 2 + 96 + 127 - 95 + 96 % 10; }
};
struct CompareAndSwap {  // a lock by spinning: threads take turns
  __device__ static uint32_t device(uint32_t t) {
    __shared__ unsigned lock;
    __shared__ volatile unsigned count;
    if (t == 0) lock = 0, count = 0;
    __syncthreads();
    for (bool done = false; !done;) {
      if (atomicCAS(&lock, 0u, 1u) == 0) {
        __threadfence_block();
        count = count + t;
        __threadfence_block();
        atomicExch(&lock, 0u);
        done = true;
      }
    }
    __syncthreads();
    return count;
  }
  static uint32_t host(uint32_t) { return 96 * 95 / 2; }
};
struct LocalArray {
  __device__ static uint32_t device(uint32_t t) {
    uint32_t cells[17];
    for (uint32_t i = 0; i < 17; ++i) cells[i * 5 % 17] = i * t;
    return cells[t % 17];
  }
  static uint32_t host(uint32_t t) {
    uint32_t i = 0;
    while (i * 5 % 17 != t % 17) ++i;
    return i * t;
  }
};
struct VectorAccess {
  __device__ static uint32_t device(uint32_t t) {
    __shared__ uint4 cells[kThreads];
    cells[t] = {t, t + 1, t + 2, t + 3};
    __syncthreads();
    const uint4 other = cells[(t + 1) % kThreads];
    return other.x + other.y + other.z + other.w;
  }
  static uint32_t host(uint32_t t) { return 4 * ((t + 1) % kThreads) + 6; }
};
struct GenericPointer {
  __device__ static uint32_t device(uint32_t t) {
    __shared__ uint32_t cell[kThreads];
    uint32_t local[2] = {t, t + 1};
    cell[t] = 7;
    uint32_t* pointer = t % 2 ? &cell[t] : &local[t % 3 ? 1 : 0];
    asm volatile("" : "+l"(pointer));
    *pointer += 1;
    return *pointer + uint32_t(__isShared(pointer));
  }
  static uint32_t host(uint32_t t) { return t % 2 ? 9 : t + (t % 3 ? 2 : 1); }
};
struct Switch {
  __device__ static uint32_t device(uint32_t t) {
    switch (t % 9) {
      case 0:
        return t * t;
      case 1:
        return t + 100;
      case 2:
        return t / 3;
      case 3:
        return __brev(t);
      case 4:
        return t ^ 0x55;
      case 5:
        return t << 4;
      case 6:
        return ~t;
      case 7:
        return t % 4;
      default:
        return 1;
    }
  }
  static uint32_t host(uint32_t t) {
    uint32_t reversed = 0;
    for (int bit = 0; bit < 32; ++bit) reversed |= (t >> bit & 1) << (31 - bit);
    const uint32_t results[] = {t * t, t + 100, t / 3, reversed, t ^ 0x55, t << 4, ~t, t % 4, 1};
    return results[t % 9];
  }
};

}  // namespace

void testWarps() {
  threads<ShuffleUp>("shfl.sync.up");
  threads<ShuffleDown>("shfl.sync.down");
  threads<ShuffleXor>("shfl.sync.bfly");
  threads<ShuffleIndex>("shfl.sync.idx");
  threads<ShufflePart>("shfl.sync in a branch");
  threads<ShufflePredicate>("shfl.sync d|p");
  threads<Ballot>("vote.sync.ballot");
  threads<Votes>("vote.sync.any all uni");
  threads<MatchAny>("match.any.sync");
  threads<MatchAll>("match.all.sync");
  threads<ReduceAdd>("redux.sync.add");
  threads<ReduceMinSigned>("redux.sync.min.s32");
  threads<CountAtBarrier>("bar.red");
  threads<EarlyExits>("bar.sync");
  threads<SharedAtomics>("atom.shared");
  threads<CompareAndSwap>("atom.cas as a lock");
  threads<LocalArray>("ld.local st.local");
  threads<VectorAccess>("ld.shared.v4");
  threads<GenericPointer>("generic addresses");
  threads<Switch>("switch");
}

}  // namespace selftest
