// Memory of jobs: what is handed out is nobody else's until it comes back, whatever threads take and give, and it does
// come back to be handed out again.
#include "core/job_memory.h"

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "expect.h"

using flowmap::JobMemory;

namespace {

// Each block is written over by who takes it and read by who gives it back: two owners of one would see each other.
void handsOver() {
  constexpr int kTakers = 3, kRounds = 20000;
  struct Mail {
    std::mutex mutex;
    std::vector<std::pair<void*, size_t>> blocks;
  } mail;
  std::atomic<int> taking = kTakers;
  std::vector<std::thread> threads;
  for (int taker = 0; taker < kTakers; ++taker) {
    threads.emplace_back([&, taker] {
      for (int round = 0; round < kRounds; ++round) {
        const size_t bytes = 16 + static_cast<size_t>((round * 37 + taker) % 1500);
        void* const memory = JobMemory::take(bytes);
        expect(reinterpret_cast<uintptr_t>(memory) % 16 == 0, "aligned");
        std::memset(memory, static_cast<int>(bytes & 255), bytes);
        std::lock_guard lock(mail.mutex);
        mail.blocks.emplace_back(memory, bytes);
      }
      --taking;
    });
  }
  for (int giver = 0; giver < 2; ++giver) {
    threads.emplace_back([&] {
      for (;;) {
        const bool last = taking == 0;
        std::vector<std::pair<void*, size_t>> blocks;
        {
          std::lock_guard lock(mail.mutex);
          blocks.swap(mail.blocks);
        }
        for (const auto& [memory, bytes] : blocks) {
          const auto* const values = static_cast<const unsigned char*>(memory);
          for (size_t i = 0; i < bytes; ++i) expect(values[i] == (bytes & 255), "nobody else's");
          JobMemory::giveBack(memory, bytes);
        }
        if (last && blocks.empty()) return;
        std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// However many are taken, the system is asked for few: those of a thread, and those that another gives back.
void comesBack() {
  std::set<void*> seen;
  std::vector<void*> taken;
  const auto giveBack = [&taken] {
    for (void* memory : taken) JobMemory::giveBack(memory, 100);
    taken.clear();
  };
  for (int round = 0; round < 64; ++round) {
    for (int i = 0; i < 32; ++i) taken.push_back(JobMemory::take(100));
    seen.insert(taken.begin(), taken.end());
    round % 2 ? giveBack() : std::thread(giveBack).join();
  }
  expect(seen.size() <= 128, "the same blocks again and again");
}

// What ends after a thread's own things, as jobs do that are dropped while a process ends.
struct Late {
  ~Late() {
    std::vector<void*> taken;
    for (int i = 0; i < 40; ++i) taken.push_back(JobMemory::take(100));
    expect(std::set<void*>(taken.begin(), taken.end()).size() == taken.size(), "memory of its own to the last");
    for (void* memory : taken) JobMemory::giveBack(memory, 100);
  }
};

void servesEndingThreads() {
  for (int round = 0; round < 3; ++round) {
    std::thread([] {
      thread_local Late late;
      static_cast<void>(&late);
      std::vector<void*> taken;
      for (int i = 0; i < 21; ++i) taken.push_back(JobMemory::take(100));
      for (void* memory : taken) JobMemory::giveBack(memory, 100);
    }).join();
  }
}

}  // namespace

int main() {
  comesBack();
  handsOver();
  servesEndingThreads();
  std::puts("job_memory: ok");
  return 0;
}
