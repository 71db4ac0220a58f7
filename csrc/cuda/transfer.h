// Copies through page-locked memory on the device's stream. A thread of its own waits for them, so that neither
// JavaScript nor the stream's worker does.
#pragma once

#include <condition_variable>
#include <deque>
#include <thread>
#include <vector>

#include "cuda/pinned.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {

class CudaTransfer final : public Transfer {
 public:
  explicit CudaTransfer(Runtime& runtime) : runtime_(runtime) {}
  bool direct() const override { return false; }
  std::shared_ptr<HostBuffer> buffer(size_t bytes) override { return pinned_->take(bytes); }
  void upload(const Tensor& out, std::shared_ptr<HostBuffer> from) override;
  void download(std::shared_ptr<HostBuffer> to, const Tensor& x, Arrival arrival) override;
  void copy(const Tensor& out, const Tensor& x) override;
  void flush(Arrival arrival) override;
  void stop() override;

 private:
  // A copy on its way.
  struct Pending {
    cudaEvent_t done = nullptr;
    uint64_t op = 0;  // the latest op before it
    std::shared_ptr<HostBuffer> values;
    std::shared_ptr<HostBuffer> fault;                   // absent for uploads
    Arrival arrival;                                     // likewise
    std::vector<std::shared_ptr<HostBuffer>> abandoned;  // of those dropped before it: their copies end before its own
  };
  void fetch(std::shared_ptr<HostBuffer> to, const Tensor* x, Arrival arrival);
  // Takes all that may be lacking, before anything is on its way.
  Pending prepare();
  // Puts what `copy` starts on the stream, with an event behind it.
  template <class Copy>
  void start(Pending pending, Copy copy);
  // Under the lock: keeps the buffers, which copies may still use, until a later copy has ended.
  void abandon(Pending& pending);
  cudaEvent_t event();
  void loop();
  void finish(Pending& pending);

  Runtime& runtime_;
  const std::shared_ptr<PinnedCache> pinned_ = std::make_shared<PinnedCache>(runtime_.ordinal());
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::deque<Pending> pending_;
  std::vector<std::shared_ptr<HostBuffer>> abandoned_;
  std::vector<cudaEvent_t> events_;  // for reuse
  bool running_ = false, busy_ = false;
};

}  // namespace flowmap::cuda
