#include "core/timeline.h"

#include <chrono>

namespace flowmap {
namespace {

struct HostMoment final : Moment {
  const std::chrono::steady_clock::time_point time = std::chrono::steady_clock::now();
};

}  // namespace

std::unique_ptr<Moment> HostTimeline::mark() { return std::make_unique<HostMoment>(); }

double HostTimeline::seconds(const Moment& from, const Moment& to) {
  const auto time = [](const Moment& moment) { return static_cast<const HostMoment&>(moment).time; };
  return std::chrono::duration<double>(time(to) - time(from)).count();
}

}  // namespace flowmap
