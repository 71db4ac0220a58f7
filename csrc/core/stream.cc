#include "core/stream.h"

#include <chrono>

namespace flowmap {

void Stream::enqueue(std::unique_ptr<Job> job) {
  std::unique_lock lock(mutex_);
  if (!running_) {
    worker_ = std::thread([this] { loop(); });  // throws where the system has no thread left
    running_ = true;
  }
  progress_.wait(lock, [this] { return (queue_.size() < kMaxQueued && !heldByAnother()) || stopping_; });
  if (stopping_) return;
  queue_.push_back(std::move(job));
  ++enqueued_;
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
  ++enqueued_;
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
    enqueued_ += posted_.size();
    for (std::unique_ptr<Job>& job : posted_) queue_.push_back(std::move(job));
    posted_.clear();
  }
  wake_.notify_one();
  progress_.notify_all();
}

bool Stream::synchronize(const std::function<bool()>& abandon) {
  std::unique_lock lock(mutex_);
  const uint64_t target = enqueued_;
  const auto reached = [&] { return finished_ >= target || !running_; };
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
  progress_.notify_all();
}

void Stream::stop() {
  abandon();
  if (!stopping_) return;
  worker_.join();
  std::lock_guard lock(mutex_);
  finished_ = enqueued_;
  running_ = false;
  stopping_ = false;
  progress_.notify_all();
}

void Stream::loop() {
  if (prepare_) prepare_();
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return !queue_.empty() || stopping_; });
    if (stopping_) return;
    std::unique_ptr<Job> job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    job->run();
    job.reset();  // outside the lock: it may release tensors
    lock.lock();
    ++finished_;
    progress_.notify_all();
  }
}

}  // namespace flowmap
