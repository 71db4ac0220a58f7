#include "cuda/transfer.h"

#include <chrono>
#include <cstring>

#include "core/tensor.h"

namespace flowmap::cuda {

void CudaTransfer::upload(const Tensor& out, std::shared_ptr<HostBuffer> from) {
  if (!out.bytes()) return;
  check(cudaMemcpyAsync(out.data(), from->data(), out.bytes(), cudaMemcpyHostToDevice, runtime_.stream()),
        "cudaMemcpyAsync");
  Pending pending;
  pending.values = std::move(from);
  hand(std::move(pending));
}

void CudaTransfer::download(std::shared_ptr<HostBuffer> to, const Tensor& x, Arrival arrival) {
  if (x.bytes()) {
    check(cudaMemcpyAsync(to->data(), x.data(), x.bytes(), cudaMemcpyDeviceToHost, runtime_.stream()),
          "cudaMemcpyAsync");
  }
  fetch(std::move(to), std::move(arrival));
}

void CudaTransfer::flush(Arrival arrival) { fetch(nullptr, std::move(arrival)); }

// Every read brings the record of faults along and clears it behind itself, so a fault is reported by exactly one.
void CudaTransfer::fetch(std::shared_ptr<HostBuffer> values, Arrival arrival) {
  Pending pending;
  pending.values = std::move(values);
  pending.fault = buffer(sizeof(Fault));
  pending.arrival = std::move(arrival);
  check(cudaMemcpyAsync(pending.fault->data(), runtime_.fault(), sizeof(Fault), cudaMemcpyDeviceToHost,
                        runtime_.stream()),
        "cudaMemcpyAsync");
  check(cudaMemsetAsync(runtime_.fault(), 0, sizeof(Fault), runtime_.stream()), "cudaMemsetAsync");
  hand(std::move(pending));
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

void CudaTransfer::hand(Pending pending) {
  pending.done = event();
  pending.op = runtime_.latest();
  check(cudaEventRecord(pending.done, runtime_.stream()), "cudaEventRecord");
  std::lock_guard lock(mutex_);
  pending_.push_back(std::move(pending));
  if (!running_) {
    // Detached: at the process's end it may be waiting for a device that has much left to do.
    std::thread([this] { loop(); }).detach();
    running_ = true;
  }
  wake_.notify_one();
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
      next.arrival = nullptr;
      pinned_->trim();
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
  for (const Pending& pending : dropped) events_.push_back(pending.done);
  // The one it waits for usually ends soon. If not, it is left to itself: whoever asked for it is gone.
  idle_.wait_for(lock, std::chrono::milliseconds(200), [this] { return !busy_; });
}

}  // namespace flowmap::cuda
