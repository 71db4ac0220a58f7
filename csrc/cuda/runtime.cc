#include "cuda/runtime.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace flowmap::cuda {
namespace {

// A thread serves one device: its stream's worker, or the one that waits for its copies.
thread_local Runtime* current = nullptr;

// After these the context is gone: every later call on the device answers with the same error.
bool endsContext(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorMpsClientTerminated:
    case cudaErrorContained:
    case cudaErrorExternalDevice:
    case cudaErrorDevicesUnavailable:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

std::string describe(cudaError_t status, const char* what) {
  return std::string(cudaGetErrorString(status)) + " (" + cudaGetErrorName(status) + " in " + what + ")";
}

int attribute(cudaDeviceAttr which, int ordinal) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, ordinal), "cudaDeviceGetAttribute");
  return value;
}

}  // namespace

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // one that is not sticky is not to be met again by the next call
  if (status == cudaErrorMemoryAllocation) throw Error(ErrorCode::OutOfMemory, "cuda", describe(status, what));
  if (current && endsContext(status)) throw current->failed(status, what);
  throw Error(ErrorCode::Device, "cuda", describe(status, what));
}

Runtime::Runtime(int ordinal, std::string name) : ordinal_(ordinal), name_(std::move(name)) {
  check(cudaSetDevice(ordinal), "cudaSetDevice");
  multiprocessors_ = attribute(cudaDevAttrMultiProcessorCount, ordinal);
  major_ = attribute(cudaDevAttrComputeCapabilityMajor, ordinal);
  minor_ = attribute(cudaDevAttrComputeCapabilityMinor, ordinal);
  sharedMemoryPerBlock_ = static_cast<size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, ordinal));
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  void* record = nullptr;
  check(cudaMalloc(&record, sizeof(FaultRecord)), "cudaMalloc");
  fault_ = static_cast<FaultRecord*>(record);
  check(cudaMemsetAsync(fault_, 0, sizeof(FaultRecord), stream_), "cudaMemsetAsync");
  const char* blocking = std::getenv("FLOWMAP_CUDA_BLOCKING");
  blocking_ = blocking && std::strcmp(blocking, "1") == 0;
}

FaultName Runtime::nameFault(const std::string& op, ErrorCode code, Describe describe, const Tensor& out) {
  std::lock_guard lock(mutex_);
  const auto [entry, isNew] = faultNumbers_.try_emplace({op, code, describe}, static_cast<int32_t>(faultTexts_.size()));
  if (isNew) faultTexts_.push_back({op, code, describe});
  if (launches_.size() == kNamedLaunches) {
    launches_.pop_front();
    ++firstLaunch_;
  }
  launches_.push_back(out.storage());
  device_ = &out.device();
  return {entry->second, firstLaunch_ + static_cast<int64_t>(launches_.size()) - 1};
}

std::shared_ptr<const Error> Runtime::errorOf(const Fault& fault) {
  if (fault.kind == FaultKind::None) return nullptr;
  std::lock_guard lock(mutex_);
  const auto [op, launch] = fault.name;
  if (op < 0 || static_cast<size_t>(op) >= faultTexts_.size()) {
    return std::make_shared<const Error>(ErrorCode::Internal, name_, "a kernel left a fault that no op has named");
  }
  const FaultText& text = faultTexts_[op];
  const auto error = std::make_shared<Error>(text.code, text.op, text.describe(fault));
  error->onTold([this, &stream = device_->stream()] {
    if (!stream.post(makeJob([this]() noexcept { clearStruck(); }))) forgetFaults();
  });
  const size_t at = static_cast<size_t>(launch - firstLaunch_);
  if (launch < firstLaunch_ || at >= launches_.size()) return error;
  if (std::shared_ptr<Storage> faulty = launches_[at].lock()) {
    // The queue may be full, and its front wait for what the calling thread is to bring.
    device_->stream().post(makeJob([faulty = std::move(faulty), error]() noexcept { faulty->setError(error); }));
  }
  return error;
}

void Runtime::clearStruck() {
  // A failure here is that of every call to come.
  cudaMemsetAsync(&fault_->struck, 0, sizeof fault_->struck, stream_);
}

void Runtime::adoptThread() {
  current = this;
  cudaSetDevice(ordinal_);  // a failure here is that of every call to come
}

void Runtime::startStream() {
  adoptThread();
  if (forget_.exchange(false)) clearStruck();
}

void Runtime::refuse(const std::string& op) const {
  if (!lost_.load(std::memory_order_acquire)) return;
  throw DeviceLost(op, name_ + " failed in " + lostIn_ + ": " + lostBecause_ + "; it needs a new process");
}

void Runtime::enter(const char* op) {
  refuse(op);
  const uint64_t number = entered_.load(std::memory_order_relaxed) + 1;
  ops_[number % kRemembered].store(op, std::memory_order_relaxed);
  entered_.store(number, std::memory_order_release);
}

void Runtime::leave() {
  if (!blocking_) return;
  const uint64_t number = entered_.load(std::memory_order_relaxed);
  check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  completed(number);
}

void Runtime::completed(uint64_t number) {
  uint64_t known = completed_.load(std::memory_order_relaxed);
  while (known < number && !completed_.compare_exchange_weak(known, number)) {
  }
}

Runtime::Suspects Runtime::suspects() const {
  Suspects found;
  const uint64_t last = entered_.load(std::memory_order_acquire);
  const uint64_t first = std::max(completed_.load(), last > kRemembered ? last - kRemembered : 0) + 1;
  found.forgotten = last - completed_.load() > kRemembered;
  for (uint64_t number = first; number <= last; ++number) {
    const std::string op = ops_[number % kRemembered].load(std::memory_order_relaxed);
    if (op == "tensor" || op == "to") continue;  // a copy that the library itself sized and placed
    if (std::find(found.ops.begin(), found.ops.end(), op) == found.ops.end()) found.ops.push_back(op);
  }
  return found;
}

DeviceLost Runtime::failed(cudaError_t status, const char* what) {
  std::lock_guard lock(mutex_);
  if (lost_) {
    return DeviceLost(lostIn_, name_ + " failed: " + lostBecause_ + "; it needs a new process");
  }
  const Suspects found = suspects();
  std::string because = describe(status, what);
  if (found.ops.size() == 1 && !found.forgotten) {
    lostIn_ = found.ops[0];
  } else if (found.ops.empty()) {
    lostIn_ = name_;
  } else {
    lostIn_ = found.ops.back();
    because += ", in it or in an op before it that no read has waited for (";
    for (size_t i = 0; i < found.ops.size(); ++i) because += (i ? ", " : "") + found.ops[i];
    because += found.forgotten ? ", and earlier ones)" : ")";
    because += "; FLOWMAP_CUDA_BLOCKING=1 tells which";
  }
  lostBecause_ = because;
  lost_.store(true, std::memory_order_release);
  return DeviceLost(lostIn_, name_ + " failed: " + because + "; it needs a new process");
}

}  // namespace flowmap::cuda
