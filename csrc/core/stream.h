// An in-order queue of jobs with a thread of its own. JavaScript enqueues and goes on; only reading waits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "core/job_memory.h"

namespace flowmap {

class Stream {
 public:
  struct Job {
    virtual ~Job() = default;
    virtual void run() noexcept = 0;
    static void* operator new(size_t bytes) { return JobMemory::take(bytes); }
    static void operator delete(void* memory, size_t bytes) noexcept { JobMemory::giveBack(memory, bytes); }
  };

  // `prepare` runs on the thread each time one starts.
  explicit Stream(std::function<void()> prepare = {}) : prepare_(std::move(prepare)) {}
  ~Stream() { stop(); }

  // Starts the thread at the first job. Where `kMaxQueued` jobs wait, blocks until there is room for many: a program
  // that never reads must not queue without bound.
  // Virtual, so that a device's library calls the addon's.
  virtual void enqueue(std::unique_ptr<Job> job);

  // Never blocks: for threads that bring what jobs of the queue may be waiting for. False, and the job is dropped,
  // where no thread runs.
  virtual bool post(std::unique_ptr<Job> job);

  // From `hold` to `unhold`, both on one thread, jobs of other threads wait in `enqueue`, and posted ones, of any
  // thread, until it ends. `hold` waits for its turn; false when `abandon` says so.
  bool hold(const std::function<bool()>& abandon);
  void unhold();

  // Returns true when everything enqueued before the call has run, or false when `abandon`, asked now and then, says
  // so.
  bool synchronize(const std::function<bool()>& abandon);

  // Drops what waits and takes nothing more until `stop` has been called. A job that waits for something else is to
  // ask `stopping` now and then.
  void abandon();
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }

  // Runs the job in progress to its end, drops what waits, and joins the thread. A later enqueue starts anew.
  void stop();

 private:
  static constexpr size_t kMaxQueued = 8192, kRoomAgain = kMaxQueued / 2;
  static constexpr uint64_t kNobodyWaits = UINT64_MAX;
  void loop();
  bool heldByAnother() const { return holder_ != std::thread::id() && holder_ != std::this_thread::get_id(); }

  const std::function<void()> prepare_;
  std::mutex mutex_;
  std::condition_variable wake_;      // for the worker
  std::condition_variable room_;      // for those who found the queue full
  std::condition_variable progress_;  // for those who wait for a job's end, or for the end of a hold
  std::deque<std::unique_ptr<Job>> queue_;
  std::deque<std::unique_ptr<Job>> posted_;  // while held
  std::thread worker_;
  std::thread::id holder_;
  uint64_t enqueued_ = 0;
  uint64_t finished_ = 0;
  uint64_t awaited_ = kNobodyWaits;  // the least number of finished jobs that somebody sleeps until
  bool running_ = false;
  std::atomic<bool> stopping_ = false;
};

template <class Run>
std::unique_ptr<Stream::Job> makeJob(Run run) {
  struct Closure final : Stream::Job {
    explicit Closure(Run r) : body(std::move(r)) {}
    void run() noexcept override { body(); }
    Run body;
  };
  return std::make_unique<Closure>(std::move(run));
}

}  // namespace flowmap
