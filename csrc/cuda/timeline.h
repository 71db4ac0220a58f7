// Moments of a CUDA device: events on its stream, which are kept for reuse.
#pragma once

#include <memory>

#include "core/timeline.h"
#include "cuda/runtime.h"

namespace flowmap::cuda {

class EventPool;

class CudaTimeline final : public Timeline {
 public:
  explicit CudaTimeline(Runtime& runtime);
  std::unique_ptr<Moment> mark() override;
  double seconds(const Moment& from, const Moment& to) override;

 private:
  Runtime& runtime_;
  const std::shared_ptr<EventPool> pool_;
};

}  // namespace flowmap::cuda
