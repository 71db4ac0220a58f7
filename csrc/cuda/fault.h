// The first thing that went wrong in kernels of a device, recorded by the kernel itself: the host learns of it with the
// next read, without a synchronisation per op. Kernels that find a fault skip what it would make wrong.
#pragma once

#include <cstdint>

namespace flowmap::cuda {

enum class FaultKind : int32_t { None, IndexOutOfRange, NotFinite, WeightOutOfRange };

// Which launch a kernel belongs to: see Runtime::nameFault.
struct FaultName {
  int32_t op;      // what went wrong in which op
  int64_t launch;  // and what it was computing
};

struct Fault {
  FaultKind kind;
  FaultName name;
  int64_t value;     // the offending index, or bits of a double
  int64_t position;  // the row, element or group it was found at
};

#ifdef __CUDACC__
// The first caller wins; later faults are consequences or repetitions.
__device__ inline void raise(Fault* fault, FaultKind kind, FaultName name, int64_t value, int64_t position) {
  if (atomicCAS(reinterpret_cast<int*>(&fault->kind), static_cast<int>(FaultKind::None), static_cast<int>(kind)) !=
      static_cast<int>(FaultKind::None))
    return;
  fault->name = name;
  fault->value = value;
  fault->position = position;
}
#endif

}  // namespace flowmap::cuda
