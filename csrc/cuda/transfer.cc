#include "cuda/transfer.h"

#include <chrono>
#include <cstring>
#include <system_error>

#include "core/tensor.h"

namespace flowmap::cuda {

void CudaTransfer::upload(const Tensor& out, std::shared_ptr<HostBuffer> from) {
  if (!out.bytes()) return;
  Pending pending = prepare();
  const void* const source = from->data();
  pending.values = std::move(from);
  start(std::move(pending), [&] {
    check(cudaMemcpyAsync(out.data(), source, out.bytes(), cudaMemcpyHostToDevice, runtime_.stream()),
          "cudaMemcpyAsync");
  });
}

void CudaTransfer::download(std::shared_ptr<HostBuffer> to, const Tensor& x, Arrival arrival) {
  fetch(std::move(to), &x, std::move(arrival));
}

void CudaTransfer::copy(const Tensor& out, const Tensor& x) {
  if (!x.bytes()) return;
  check(cudaMemcpyAsync(out.data(), x.data(), x.bytes(), cudaMemcpyDeviceToDevice, runtime_.stream()),
        "cudaMemcpyAsync");
}

void CudaTransfer::flush(Arrival arrival) { fetch(nullptr, nullptr, std::move(arrival)); }

// Every read brings the first fault along and clears it behind itself, so it is reported by exactly one.
void CudaTransfer::fetch(std::shared_ptr<HostBuffer> to, const Tensor* x, Arrival arrival) {
  Pending pending = prepare();
  pending.fault = buffer(sizeof(Fault));
  pending.values = to;
  pending.arrival = std::move(arrival);
  void* const fault = pending.fault->data();
  start(std::move(pending), [&] {
    if (x && x->bytes()) {
      check(cudaMemcpyAsync(to->data(), x->data(), x->bytes(), cudaMemcpyDeviceToHost, runtime_.stream()),
            "cudaMemcpyAsync");
    }
    Fault* const first = &runtime_.fault()->first;
    check(cudaMemcpyAsync(fault, first, sizeof(Fault), cudaMemcpyDeviceToHost, runtime_.stream()), "cudaMemcpyAsync");
    check(cudaMemsetAsync(first, 0, sizeof(Fault), runtime_.stream()), "cudaMemsetAsync");
  });
}

cudaEvent_t CudaTransfer::event() {
  {
    std::lock_guard lock(mutex_);
    if (!events_.empty()) {
      const cudaEvent_t reused = events_.back();
      events_.pop_back();
      return reused;
    }
  }
  cudaEvent_t made = nullptr;
  check(cudaEventCreateWithFlags(&made, cudaEventDisableTiming | cudaEventBlockingSync), "cudaEventCreateWithFlags");
  return made;
}

CudaTransfer::Pending CudaTransfer::prepare() {
  {
    std::lock_guard lock(mutex_);
    if (!running_) {
      // Detached: at the process's end it may be waiting for a device that has much left to do.
      try {
        std::thread([this] { loop(); }).detach();
      } catch (const std::system_error& error) {
        fail(ErrorCode::OutOfMemory, "copy", "the system has no thread to wait for copies: ", error.what());
      }
      running_ = true;
    }
  }
  Pending pending;
  pending.done = event();
  return pending;
}

template <class Copy>
void CudaTransfer::start(Pending pending, Copy copy) {
  try {
    copy();
    pending.op = runtime_.latest();
    check(cudaEventRecord(pending.done, runtime_.stream()), "cudaEventRecord");
  } catch (...) {
    std::lock_guard lock(mutex_);
    abandon(pending);  // some of its copies may be on their way
    throw;
  }
  std::lock_guard lock(mutex_);
  pending.abandoned.swap(abandoned_);
  pending_.push_back(std::move(pending));
  wake_.notify_one();
}

void CudaTransfer::abandon(Pending& pending) {
  events_.push_back(pending.done);
  if (pending.fault) runtime_.forgetFaults();
  for (auto* buffer : {&pending.values, &pending.fault}) {
    if (*buffer) abandoned_.push_back(std::move(*buffer));
  }
  for (auto& buffer : pending.abandoned) abandoned_.push_back(std::move(buffer));
}

void CudaTransfer::loop() {
  runtime_.adoptThread();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return !pending_.empty(); });
    {
      Pending next = std::move(pending_.front());
      pending_.pop_front();
      busy_ = true;
      lock.unlock();
      finish(next);
      next.values.reset();
      next.fault.reset();
      next.abandoned.clear();
      next.arrival = nullptr;
      if (!runtime_.capturing()) pinned_->trim();  // freeing waits for the device
      lock.lock();
      if (next.done) events_.push_back(next.done);
    }
    busy_ = false;
    idle_.notify_all();
  }
}

void CudaTransfer::finish(Pending& pending) {
  std::shared_ptr<const Error> error;
  try {
    check(cudaEventSynchronize(pending.done), "a kernel or copy before a read");
    runtime_.completed(pending.op);
    if (pending.fault) {
      Fault fault;
      std::memcpy(&fault, pending.fault->data(), sizeof fault);
      error = runtime_.errorOf(fault);
    }
  } catch (const Error& caught) {
    error = std::make_shared<const Error>(caught);
  }
  if (!pending.arrival) return;
  if (error) pending.values = nullptr;
  pending.arrival(std::move(pending.values), std::move(error));
}

void CudaTransfer::stop() {
  std::deque<Pending> dropped;
  std::unique_lock lock(mutex_);
  dropped.swap(pending_);
  for (Pending& pending : dropped) abandon(pending);
  // The one it waits for usually ends soon. If not, it is left to itself: whoever asked for it is gone.
  idle_.wait_for(lock, std::chrono::milliseconds(200), [this] { return !busy_; });
}

}  // namespace flowmap::cuda
