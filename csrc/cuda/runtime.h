// What the kernels of one CUDA device share: its stream, what the device can do, its record of faults, and what is
// known of a failure that ends it.
#pragma once

#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"
#include "cuda/fault.h"

namespace flowmap::cuda {

// Throws Error(Device), or Error(OutOfMemory), naming `what` where `status` is not success; the op is left empty where
// it is the one in progress. After an error that ends the device's context every later call fails with the same
// message.
void check(cudaError_t status, const char* what);

class Runtime {
 public:
  Runtime(int ordinal, std::string name);
  // Runtimes are never destroyed: their streams, like the threads that use them, last as long as the process.
  ~Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  int ordinal() const { return ordinal_; }
  const std::string& name() const { return name_; }
  cudaStream_t stream() const { return stream_; }
  // While the stream records: what asks or waits for the device is better left. Set on the stream's thread.
  bool capturing() const { return capturing_.load(std::memory_order_relaxed); }
  void setCapturing(bool capturing) { capturing_.store(capturing, std::memory_order_relaxed); }
  int multiprocessors() const { return multiprocessors_; }
  int major() const { return major_; }
  int minor() const { return minor_; }
  size_t sharedMemoryPerBlock() const { return sharedMemoryPerBlock_; }  // the opt-in limit

  // In device memory.
  FaultRecord* fault() const { return fault_; }
  // What a launch puts into a fault; `describe` becomes the message, built from the record when it is read, and `out`,
  // what the launch computes, keeps the error from then on.
  using Describe = std::string (*)(const Fault& fault);
  FaultName nameFault(const std::string& op, ErrorCode code, Describe describe, const Tensor& out);
  // The error that a fault stands for; null for none. What is enqueued once JavaScript has been told is taken for no
  // consequence of it. Any thread.
  std::shared_ptr<const Error> errorOf(const Fault& fault);
  // Some fault will never be told: who was to read it is gone.
  void forgetFaults() { forget_.store(true); }

  // Makes this the current device of the calling thread; `check` then knows whose failure it sees.
  void adoptThread();
  // On the stream's thread, each time one starts.
  void startStream();

  // Around every op, on the stream's thread (see Backend).
  void refuse(const std::string& op) const;
  void enter(const char* op);
  void leave();
  uint64_t latest() const { return entered_; }  // the number, from 1, of the latest op
  void completed(uint64_t number);              // the device has done all up to `number`

  // Notes, once, that the context is lost; the error to report that with. Any thread.
  DeviceLost failed(cudaError_t status, const char* what);

 private:
  void clearStruck();
  struct Suspects {
    std::vector<std::string> ops;  // in order, each once
    bool forgotten = false;        // there were more than are remembered
  };
  Suspects suspects() const;

  int ordinal_ = 0;
  std::string name_;
  cudaStream_t stream_ = nullptr;
  int multiprocessors_ = 0, major_ = 0, minor_ = 0;
  size_t sharedMemoryPerBlock_ = 0;
  FaultRecord* fault_ = nullptr;
  bool blocking_ = false;
  std::atomic<bool> capturing_ = false;
  std::atomic<bool> forget_ = false;

  struct FaultText {
    std::string op;
    ErrorCode code;
    Describe describe;
  };
  // The latest launches that may leave a fault, which no read has come back from since.
  static constexpr size_t kNamedLaunches = 4096;
  mutable std::mutex mutex_;
  std::vector<FaultText> faultTexts_;
  std::deque<std::weak_ptr<Storage>> launches_;
  Device* device_ = nullptr;  // known from the first launch that is named
  int64_t firstLaunch_ = 0;
  std::map<std::tuple<std::string, ErrorCode, Describe>, int32_t> faultNumbers_;

  // The ops since the device was last known to be well, the latest kRemembered of them: who may have failed.
  static constexpr uint64_t kRemembered = 64;
  std::array<std::atomic<const char*>, kRemembered> ops_{};
  std::atomic<uint64_t> entered_ = 0, completed_ = 0;
  std::atomic<bool> lost_ = false;
  std::string lostIn_, lostBecause_;
};

}  // namespace flowmap::cuda
