#include "core/stream.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "core/pause.h"

namespace flowmap {
namespace {

using Clock = std::chrono::steady_clock;

// How long a thread looks out for what it waits for before it sleeps: putting it to sleep and waking it costs both
// sides several times what a small op does, and the next op or the last result is often that near.
constexpr std::chrono::microseconds kPatience{16};
// Where that was in vain, the next times are shorter and shorter, down to this, but for one in a while: it takes the
// processor from others, maybe from the very thread that is waited for.
constexpr std::chrono::microseconds kLeastPatience{2};
constexpr unsigned kOnceIn = 64;

template <class Condition>
void lookOut(const Condition& condition) {
  thread_local unsigned inVain = 0;
  const std::chrono::microseconds patience =
      inVain % kOnceIn == 0 ? kPatience : std::max(kPatience / (1 << std::min(inVain, 4u)), kLeastPatience);
  for (const Clock::time_point end = Clock::now() + patience; Clock::now() < end;) {
    for (int i = 0; i < 16; ++i) {
      if (condition()) {
        inVain = 0;
        return;
      }
      pause();
    }
  }
  ++inVain;
}

// Counts are written under the lock only; this is for looking at them without it.
uint64_t peek(uint64_t& count) { return std::atomic_ref(count).load(std::memory_order_relaxed); }
void set(uint64_t& count, uint64_t value) { std::atomic_ref(count).store(value, std::memory_order_relaxed); }

// The lock is held for moments only, by the thread that queues and the one that runs in turn: to sleep for it costs
// more.
std::unique_lock<std::mutex> lockSoon(std::mutex& mutex) {
  for (int i = 0; i < 64; ++i) {
    if (std::unique_lock lock(mutex, std::try_to_lock); lock) return lock;
    pause();
  }
  return std::unique_lock(mutex);
}

}  // namespace

void Stream::enqueue(std::unique_ptr<Job> job) {
  std::unique_lock lock = lockSoon(mutex_);
  if (!running_) {
    worker_ = std::thread([this] { loop(); });  // throws where the system has no thread left
    running_ = true;
  }
  if (queue_.size() >= kMaxQueued) room_.wait(lock, [this] { return queue_.size() <= kRoomAgain || stopping_; });
  progress_.wait(lock, [this] { return !heldByAnother() || stopping_; });
  if (stopping_) return;
  queue_.push_back(std::move(job));
  set(enqueued_, enqueued_ + 1);
  lock.unlock();
  wake_.notify_one();
}

bool Stream::post(std::unique_ptr<Job> job) {
  std::lock_guard lock(mutex_);
  if (!running_ || stopping_) return false;
  if (holder_ != std::thread::id()) {
    posted_.push_back(std::move(job));
    return true;
  }
  queue_.push_back(std::move(job));
  set(enqueued_, enqueued_ + 1);
  wake_.notify_one();
  return true;
}

bool Stream::hold(const std::function<bool()>& abandon) {
  std::unique_lock lock(mutex_);
  while (!progress_.wait_for(lock, std::chrono::milliseconds(20), [this] { return !heldByAnother(); })) {
    lock.unlock();
    if (abandon()) return false;
    lock.lock();
  }
  holder_ = std::this_thread::get_id();
  return true;
}

void Stream::unhold() {
  {
    std::lock_guard lock(mutex_);
    holder_ = {};
    set(enqueued_, enqueued_ + posted_.size());
    for (std::unique_ptr<Job>& job : posted_) queue_.push_back(std::move(job));
    posted_.clear();
  }
  wake_.notify_one();
  progress_.notify_all();
}

bool Stream::synchronize(const std::function<bool()>& abandon) {
  std::unique_lock lock(mutex_);
  const uint64_t target = enqueued_;
  // It leaves word of what it waits for: to be woken by every job would take the processor from those that run them.
  const auto reached = [&] {
    if (finished_ >= target || !running_) return true;
    awaited_ = std::min(awaited_, target);
    return false;
  };
  if (reached()) return true;
  lock.unlock();
  lookOut([&] { return peek(finished_) >= target; });
  lock = lockSoon(mutex_);
  while (!progress_.wait_for(lock, std::chrono::milliseconds(20), reached)) {
    lock.unlock();
    if (abandon()) return false;
    lock.lock();
  }
  return true;
}

void Stream::abandon() {
  std::deque<std::unique_ptr<Job>> dropped, posted;  // end outside the lock: jobs may release tensors
  {
    std::lock_guard lock(mutex_);
    if (!running_) return;
    stopping_ = true;
    dropped.swap(queue_);
    posted.swap(posted_);
  }
  wake_.notify_one();
  room_.notify_all();
  progress_.notify_all();
}

void Stream::stop() {
  abandon();
  if (!stopping_) return;
  worker_.join();
  std::lock_guard lock(mutex_);
  set(finished_, enqueued_);
  running_ = false;
  stopping_ = false;
  progress_.notify_all();
}

void Stream::loop() {
  if (prepare_) prepare_();
  std::unique_lock lock(mutex_);
  for (;;) {
    if (queue_.empty() && !stopping_) {
      const uint64_t run = finished_;
      lock.unlock();
      lookOut([&] { return peek(enqueued_) != run || stopping(); });
      lock = lockSoon(mutex_);
    }
    wake_.wait(lock, [this] { return !queue_.empty() || stopping_; });
    if (stopping_) return;
    std::unique_ptr<Job> job = std::move(queue_.front());
    queue_.pop_front();
    if (queue_.size() == kRoomAgain) room_.notify_all();
    lock.unlock();
    job->run();
    job.reset();  // outside the lock: it may release tensors
    lock = lockSoon(mutex_);
    set(finished_, finished_ + 1);
    if (finished_ < awaited_) continue;
    awaited_ = kNobodyWaits;
    progress_.notify_all();
  }
}

}  // namespace flowmap
