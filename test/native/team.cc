// The team by itself: every part and task runs once, whatever the sizes, in nested work, and while others use it.
#include "cpu/team.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "cpu/parallel.h"
#include "expect.h"

using namespace flowmap::cpu;

namespace {

void everyIndexOnce(unsigned seed, int rounds) {
  std::mt19937 random(seed);
  const auto upTo = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (int round = 0; round < rounds; ++round) {
    if (round % 50 == 0) setTeamSize(1 + upTo(7));
    // Long enough for threads to fall asleep.
    if (round % 400 == 399) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    const int64_t n = upTo(500), align = 1 + upTo(3);
    std::vector<int> ranges(n), tasks(n);
    std::atomic<int64_t> within{0};
    parallelFor(n, true, align, [&](int64_t begin, int64_t end) {
      expect(begin % align == 0 || begin == 0, "ranges begin at multiples of the alignment");
      for (int64_t i = begin; i < end; ++i) ++ranges[i];
      parallelFor(5, true, 1, [&](int64_t first, int64_t last) { within += last - first; });
    });
    parallelTasks(n, random() % 2 == 0, [&](int64_t i) { ++tasks[i]; });
    for (int64_t i = 0; i < n; ++i) expect(ranges[i] == 1 && tasks[i] == 1, "every index is met once");
    expect(n == 0 ? within == 0 : within >= 5 && within % 5 == 0, "work within parts is done there");
  }
}

void partsKnowTheirThread() {
  setTeamSize(4);
  // More parts than threads, too.
  const auto master = std::this_thread::get_id();
  std::vector<std::atomic<int>> inside(4);
  for (int round = 0; round < 2000; ++round) {
    parallelFor(round % 2 ? 4 : 40, true, 1, [&](int64_t, int64_t) {
      const int64_t thread = teamThread();
      expect(thread >= 0 && thread < 4, "a thread's number is below the team's size");
      expect((thread == 0) == (std::this_thread::get_id() == master), "the thread whose work it is has number 0");
      expect(inside[thread].fetch_add(1) == 0, "no two threads have the same number at a time");
      expect(teamSize() == 1, "parts have no team");
      inside[thread].fetch_sub(1);
    });
  }
  expect(teamSize() == 4, "but whose work it is has it again");
}

void othersHaveNoTeam() {
  setTeamSize(3);
  int64_t size = 0;
  std::thread([&] { size = teamSize(); }).join();
  expect(size == 1, "a thread that did not ask for a team has none");
}

}  // namespace

int main() {
  everyIndexOnce(1, 4000);
  partsKnowTheirThread();
  othersHaveNoTeam();
  std::thread one(everyIndexOnce, 2, 4000), other(everyIndexOnce, 3, 4000);
  one.join();
  other.join();
  std::puts("team: ok");
}
