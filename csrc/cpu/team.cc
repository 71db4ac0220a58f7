#include "cpu/team.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/pause.h"
#include "cpu/threads.h"

namespace flowmap::cpu {
namespace {

using Clock = std::chrono::steady_clock;

// How long a thread looks out for the next piece of work before it sleeps: waking it takes tens of microseconds.
constexpr std::chrono::microseconds kPatience{60};
constexpr int kPauses = 32;  // between two looks at the clock

thread_local int64_t ownSize = 1;
thread_local int64_t ownThread = 0;
thread_local bool inPart = false;

// Until the condition holds, or for ever: gives the processor to whoever else wants it now and then.
template <class Condition>
bool lookOut(const Condition& condition, std::chrono::microseconds patience) {
  const Clock::time_point end = Clock::now() + patience;
  for (;;) {
    for (int i = 0; i < kPauses; ++i) {
      if (condition()) return true;
      pause();
    }
    if (Clock::now() >= end) return false;
    std::this_thread::yield();
  }
}

// A round is one piece of work: its number, and how many parts it has.
constexpr int kPartBits = 16;
static_assert(kMostPartsPerThread * kMaxThreads < 1 << kPartBits);
int64_t partsOf(uint64_t round) { return static_cast<int64_t>(round & ((1 << kPartBits) - 1)); }

// Its threads end with the process or when the team shrinks; it is never destroyed.
class Team {
 public:
  // By one master at a time. Returns the size it has come to.
  int64_t resize(int64_t size) {
    const size_t others = static_cast<size_t>(size - 1);
    if (others < threads_.size()) {
      wanted_.store(size);
      ring();
      for (size_t i = others; i < threads_.size(); ++i) threads_[i].join();
      threads_.resize(others);
    }
    wanted_.store(size);
    while (threads_.size() < others) {
      const int64_t thread = static_cast<int64_t>(threads_.size()) + 1;
      try {
        threads_.emplace_back([this, thread] { loop(thread); });
      } catch (const std::system_error&) {
        break;
      }
    }
    return static_cast<int64_t>(threads_.size()) + 1;
  }

  void run(TeamPart work, void* context, int64_t parts) {
    work_ = work, context_ = context;
    left_.store(parts, std::memory_order_relaxed);
    const uint64_t round =
        ((round_.load(std::memory_order_relaxed) >> kPartBits) + 1) << kPartBits | static_cast<uint64_t>(parts);
    round_.store(round);
    if (sleeping_.load() > 0) ring();
    take(round, 0);
    // Those that were taken are being run.
    const auto done = [this] { return left_.load(std::memory_order_acquire) == 0; };
    while (!lookOut(done, kPatience)) {
    }
  }

 private:
  struct alignas(64) Part {
    std::atomic<uint64_t> taken{0};  // the last round it was taken in
  };

  // Runs what nobody has taken, a thread's own parts first: it may have the data of the round before in its caches.
  void take(uint64_t round, int64_t thread) {
    const int64_t parts = partsOf(round), first = thread * parts / std::max(wanted_.load(), thread + 1);
    for (int64_t i = 0; i < parts; ++i) {
      const int64_t part = (first + i) % parts;
      std::atomic<uint64_t>& taken = parts_[part].taken;
      uint64_t last = taken.load(std::memory_order_relaxed);
      // A round whose part is still to be had has not ended, so work_ and context_ are its own.
      if (last >= round || !taken.compare_exchange_strong(last, round, std::memory_order_acq_rel)) continue;
      work_(context_, part);
      left_.fetch_sub(1, std::memory_order_acq_rel);
    }
  }

  void loop(int64_t thread) {
    omp_set_num_threads(1);  // oneDNN's, within parts
    ownThread = thread;
    inPart = true;
    uint64_t seen = 0;
    const auto ended = [&] { return thread >= wanted_.load(); };
    const auto news = [&] { return round_.load() != seen || ended(); };
    while (!ended()) {
      if (!lookOut(news, kPatience)) sleepUntil(news);
      if (const uint64_t round = round_.load(); round != seen) {
        seen = round;
        take(round, thread);
      }
    }
  }

  // Either the master sees that somebody sleeps, or the sleeper sees what is new.
  template <class Condition>
  void sleepUntil(const Condition& news) {
    sleeping_.fetch_add(1);
    for (uint32_t rung = bell_.load(); !news(); rung = bell_.load()) bell_.wait(rung);
    sleeping_.fetch_sub(1);
  }
  void ring() {
    bell_.fetch_add(1);
    bell_.notify_all();
  }

  std::vector<std::thread> threads_;
  std::unique_ptr<Part[]> parts_{new Part[kMostPartsPerThread * kMaxThreads]};
  TeamPart work_ = nullptr;
  void* context_ = nullptr;
  alignas(64) std::atomic<uint64_t> round_{0};
  alignas(64) std::atomic<int64_t> left_{0};
  alignas(64) std::atomic<uint32_t> bell_{0};
  std::atomic<int64_t> sleeping_{0}, wanted_{1};
};

Team& team() {
  static Team& team = *new Team;
  return team;
}

// One master at a time: another thread that has a size runs its parts itself meanwhile.
std::mutex& mastership() {
  static std::mutex& mutex = *new std::mutex;
  return mutex;
}

struct Master {
  ~Master() {
    if (ownSize > 1) setTeamSize(1);
  }
};

}  // namespace

void setTeamSize(int64_t size) {
  thread_local Master untilThisThreadEnds;
  std::lock_guard lock(mastership());
  omp_set_num_threads(1);  // oneDNN works within parts, on one thread each
  ownSize = 1;
  ownSize = team().resize(size);
}

int64_t teamSize() { return inPart ? 1 : ownSize; }

int64_t teamThread() { return ownThread; }

void runOnTeam(TeamPart work, void* context, int64_t parts) {
  std::unique_lock lock(mastership(), std::defer_lock);
  if (parts == 1 || teamSize() == 1 || !lock.try_lock()) {
    for (int64_t part = 0; part < parts; ++part) work(context, part);
    return;
  }
  inPart = true;
  team().run(work, context, parts);
  inPart = false;
}

}  // namespace flowmap::cpu
