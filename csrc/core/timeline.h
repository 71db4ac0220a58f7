// When a device came to a point of its work, and the seconds between two such points: what benchmarks time by.
#pragma once

#include <memory>

namespace flowmap {

class Moment {
 public:
  virtual ~Moment() = default;
};

class Timeline {
 public:
  virtual ~Timeline() = default;
  // On the stream's thread: when all that was put on it before has ended. Throws.
  virtual std::unique_ptr<Moment> mark() = 0;
  // Both of this device, which has come to both. Any thread; throws.
  virtual double seconds(const Moment& from, const Moment& to) = 0;
};

// Where the stream's thread does the work itself.
class HostTimeline final : public Timeline {
 public:
  std::unique_ptr<Moment> mark() override;
  double seconds(const Moment& from, const Moment& to) override;
};

}  // namespace flowmap
