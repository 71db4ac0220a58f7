// What the kernels of one CUDA device share: its stream, what the device can do, and its record of faults.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>

#include "core/error.h"
#include "cuda/fault.h"

namespace flowmap::cuda {

// Throws Error(Device), or Error(OutOfMemory), naming `what` where `status` is not success. After an error that ends
// the device's context every later call fails with the same message.
void check(cudaError_t status, const char* what);

class Runtime {
 public:
  explicit Runtime(int ordinal);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  int ordinal() const { return ordinal_; }
  cudaStream_t stream() const { return stream_; }
  int multiprocessors() const { return multiprocessors_; }
  int major() const { return major_; }
  int minor() const { return minor_; }
  size_t sharedMemoryPerBlock() const { return sharedMemoryPerBlock_; }  // the opt-in limit

  // In device memory.
  Fault* fault() const { return fault_; }
  // A number that kernels put into a fault; `describe` becomes the message, built from the record when it is read.
  using Describe = std::string (*)(const Fault& fault);
  int32_t nameFault(const std::string& op, ErrorCode code, Describe describe);

 private:
  int ordinal_ = 0;
  cudaStream_t stream_ = nullptr;
  int multiprocessors_ = 0, major_ = 0, minor_ = 0;
  size_t sharedMemoryPerBlock_ = 0;
  Fault* fault_ = nullptr;
};

}  // namespace flowmap::cuda
