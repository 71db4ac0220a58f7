// What only the device sees of attention's operands: numbers of keys and offsets of packed sequences. A fault says what
// is wrong with them; what attention then computes is NaN.
#include <sstream>

#include "cuda/attention.h"
#include "cuda/launch.cuh"

namespace flowmap::cuda {
namespace {

int32_t lower(const Fault& fault) { return static_cast<int32_t>(fault.value); }
int32_t upper(const Fault& fault) { return static_cast<int32_t>(static_cast<uint64_t>(fault.value) >> 32); }
__device__ int64_t both(int32_t upper, int32_t lower) {
  return static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(upper)) << 32 | static_cast<uint32_t>(lower));
}

std::string describeLength(const Fault& fault) {
  std::ostringstream text;
  text << "keyLengths must be in [0, " << upper(fault) << "], got " << lower(fault) << " in row " << fault.position;
  return text.str();
}

enum class Side { Queries, Keys };

template <Side kSide>
std::string describeStep(const Fault& fault) {
  std::ostringstream text;
  text << (kSide == Side::Queries ? "queryOffsets" : "keyOffsets");
  if (fault.position == 0)
    text << " must begin at 0, got " << lower(fault);
  else
    text << " must not decrease, got " << lower(fault) << " after " << upper(fault) << " at index " << fault.position;
  return text.str();
}

template <Side kSide>
std::string describeEnd(const Fault& fault) {
  std::ostringstream text;
  text << (kSide == Side::Queries ? "queryOffsets" : "keyOffsets") << " must end at " << upper(fault)
       << (kSide == Side::Queries ? " (the queries)" : " (the keys)") << ", got " << lower(fault);
  return text.str();
}

__global__ void __launch_bounds__(kThreads)
    checkKeyLengthsKernel(const int32_t* keyLengths, int64_t batch, int64_t keys, FaultRecord* fault, FaultName name) {
  for (int64_t b = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; b < batch; b += int64_t{gridDim.x} * blockDim.x) {
    const int32_t length = keyLengths[b];
    if (length >= 0 && length <= keys) continue;
    raise(fault, FaultKind::IndexOutOfRange, name, both(static_cast<int32_t>(keys), length), b);
  }
}

struct OffsetsNames {
  FaultName step, end;
};

// Of one side -> whether they are sound.
__device__ bool checkSide(const int32_t* offsets, int count, int32_t tokens, FaultRecord* fault, OffsetsNames names) {
  bool sound = true;
  for (int i = threadIdx.x; i <= count; i += kThreads) {
    const int32_t before = i == 0 ? 0 : offsets[i - 1], at = offsets[i];
    if (i == 0 ? at != 0 : at < before) {
      sound = false;
      raise(fault, FaultKind::IndexOutOfRange, names.step, both(before, at), i);
    }
    if (i == count && at != tokens) {
      sound = false;
      raise(fault, FaultKind::IndexOutOfRange, names.end, both(tokens, at), i);
    }
  }
  return sound;
}

// One block, for the offsets are few and the verdict is one.
__global__ void __launch_bounds__(kThreads)
    checkOffsetsKernel(const int32_t* queryOffsets, const int32_t* keyOffsets, int count, int32_t queries, int32_t keys,
                       int32_t* sound, FaultRecord* fault, OffsetsNames ofQueries, OffsetsNames ofKeys) {
  const bool queriesSound = checkSide(queryOffsets, count, queries, fault, ofQueries);
  const bool keysSound = checkSide(keyOffsets, count, keys, fault, ofKeys);
  const bool all = __syncthreads_and(queriesSound && keysSound);
  if (threadIdx.x == 0) *sound = all;
}

}  // namespace

void checkSequences(Runtime& runtime, const AttentionGeometry& g, const AttentionOperands& in, const Tensor& out,
                    int32_t* sound) {
  const auto name = [&](auto describe) { return runtime.nameFault("attention", ErrorCode::Argument, describe, out); };
  if (g.packed) {
    launchKernel(runtime, checkOffsetsKernel, Grid{dim3(1)}, in.queryOffsets.data<const int32_t>(),
                 in.keyOffsets.data<const int32_t>(), static_cast<int>(g.sequences), static_cast<int32_t>(g.queries),
                 static_cast<int32_t>(g.keys), sound, runtime.fault(),
                 OffsetsNames{name(describeStep<Side::Queries>), name(describeEnd<Side::Queries>)},
                 OffsetsNames{name(describeStep<Side::Keys>), name(describeEnd<Side::Keys>)});
  } else if (in.keyLengths && g.batch > 0) {
    launchKernel(runtime, checkKeyLengthsKernel, gridFor(runtime, g.batch), in.keyLengths.data<const int32_t>(),
                 g.batch, g.keys, runtime.fault(), name(describeLength));
  }
}

}  // namespace flowmap::cuda
