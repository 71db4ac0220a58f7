// What went wrong in kernels of a device, recorded by the kernel itself: the host learns of it with the next read,
// without a synchronisation per op.
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

// A read fetches `first` and clears it. `struck` stays until JavaScript has been told: kernels that work in place skip
// what was enqueued by then, since it may come of the fault.
struct FaultRecord {
  Fault first;
  int32_t struck;
};

#ifdef __CUDACC__
// The first caller wins; later faults are consequences or repetitions.
__device__ inline void raise(FaultRecord* record, FaultKind kind, FaultName name, int64_t value, int64_t position) {
  Fault& fault = record->first;
  if (atomicCAS(reinterpret_cast<int*>(&fault.kind), static_cast<int>(FaultKind::None), static_cast<int>(kind)) !=
      static_cast<int>(FaultKind::None))
    return;
  fault.name = name;
  fault.value = value;
  fault.position = position;
  record->struck = 1;
}
#endif

}  // namespace flowmap::cuda
