#include "cuda/timeline.h"

#include <mutex>
#include <utility>
#include <vector>

namespace flowmap::cuda {

class EventPool {
 public:
  cudaEvent_t take() {
    {
      std::lock_guard lock(mutex_);
      if (!events_.empty()) {
        const cudaEvent_t reused = events_.back();
        events_.pop_back();
        return reused;
      }
    }
    cudaEvent_t made = nullptr;
    check(cudaEventCreate(&made), "cudaEventCreate");
    return made;
  }

  void release(cudaEvent_t event) {
    std::lock_guard lock(mutex_);
    events_.push_back(event);
  }

 private:
  std::mutex mutex_;
  std::vector<cudaEvent_t> events_;
};

namespace {

struct CudaMoment final : Moment {
  explicit CudaMoment(std::shared_ptr<EventPool> from) : pool(std::move(from)), event(pool->take()) {}
  ~CudaMoment() override { pool->release(event); }
  const std::shared_ptr<EventPool> pool;
  const cudaEvent_t event;
};

}  // namespace

CudaTimeline::CudaTimeline(Runtime& runtime) : runtime_(runtime), pool_(std::make_shared<EventPool>()) {}

std::unique_ptr<Moment> CudaTimeline::mark() {
  auto moment = std::make_unique<CudaMoment>(pool_);
  check(cudaEventRecord(moment->event, runtime_.stream()), "cudaEventRecord");
  return moment;
}

double CudaTimeline::seconds(const Moment& from, const Moment& to) {
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, static_cast<const CudaMoment&>(from).event,
                             static_cast<const CudaMoment&>(to).event),
        "cudaEventElapsedTime");
  return milliseconds / 1e3;
}

}  // namespace flowmap::cuda
