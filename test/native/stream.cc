// The stream by itself: order, waiting, stopping, starting anew.
#include "core/stream.h"

#include <atomic>
#include <chrono>
#include <cstdio>
#include <vector>

#include "expect.h"

using flowmap::makeJob;
using flowmap::Stream;

namespace {

const auto never = [] { return false; };

void runsJobsInOrder() {
  Stream stream;
  std::vector<int> seen;  // written by the stream's thread only, read after synchronize
  for (int i = 0; i < 20000; ++i) stream.enqueue(makeJob([&seen, i] { seen.push_back(i); }));
  expect(stream.synchronize(never), "synchronize says that everything ran");
  expect(seen.size() == 20000, "no job is lost, though more were given than may wait at once");
  for (int i = 0; i < 20000; ++i) expect(seen[i] == i, "jobs run in the order they were given");
}

void waitingCanBeAbandoned() {
  Stream stream;
  std::atomic<bool> open = false;
  stream.enqueue(makeJob([&open] {
    while (!open) std::this_thread::yield();
  }));
  expect(!stream.synchronize([] { return true; }), "synchronize gives up when it is told to");
  open = true;
  expect(stream.synchronize(never), "and the stream goes on");
}

void wakesEachWaiterAtItsTurn() {
  Stream stream;
  std::atomic<bool> first = false, second = false, early = false, late = false;
  const auto gate = [&stream](std::atomic<bool>& open) {
    stream.enqueue(makeJob([&open] {
      while (!open) std::this_thread::yield();
    }));
  };
  gate(first);
  std::thread forFirst([&] {
    expect(stream.synchronize(never), "the first job is waited for");
    early = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // so that it waits for the first job alone
  gate(second);
  std::thread forSecond([&] {
    expect(stream.synchronize(never), "the second job is waited for");
    late = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  expect(!early && !late, "nobody is woken before");
  first = true;
  forFirst.join();
  expect(!late, "the second waiter goes on waiting when the first is woken");
  second = true;
  forSecond.join();
}

void holdsForOneThread() {
  Stream stream;
  std::vector<int> seen;
  expect(stream.hold(never), "a free stream can be held");
  std::atomic<bool> waiting = false, given = false, held = false;
  std::thread other([&] {
    waiting = true;
    stream.enqueue(makeJob([&seen] { seen.push_back(2); }));
    given = true;
    expect(stream.hold(never), "another thread holds it once it is free again");
    held = true;
    stream.unhold();
  });
  while (!waiting) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  expect(!given, "jobs of other threads wait");
  expect(stream.post(makeJob([&seen] { seen.push_back(3); })), "posted jobs are taken");
  stream.enqueue(makeJob([&seen] { seen.push_back(1); }));
  stream.enqueue(makeJob([&seen] { seen.push_back(1); }));
  expect(stream.synchronize(never) && seen == std::vector<int>{1, 1}, "those of the holder alone run");
  stream.unhold();
  other.join();
  expect(held && stream.synchronize(never) && seen == std::vector<int>{1, 1, 3, 2}, "then the others follow");
  std::thread([&] { expect(stream.hold(never), "held by a thread that ends"); }).join();
  expect(!stream.hold([] { return true; }), "waiting to hold can be abandoned");
  stream.abandon();
}

void stopsAndStartsAnew() {
  std::atomic<int> prepared = 0, ran = 0;
  Stream stream([&prepared] { ++prepared; });
  std::atomic<bool> started = false, open = false;
  stream.enqueue(makeJob([&] {
    started = true;
    while (!open) std::this_thread::yield();
    ++ran;
  }));
  for (int i = 0; i < 10; ++i) stream.enqueue(makeJob([&ran] { ran += 100; }));
  while (!started) std::this_thread::yield();
  std::thread opener([&open] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    open = true;
  });
  stream.stop();
  opener.join();
  expect(ran == 1, "the job in progress ends, those that wait are dropped");
  stream.enqueue(makeJob([&ran] { ++ran; }));
  expect(stream.synchronize(never), "a stopped stream takes work again");
  expect(ran == 2 && prepared == 2, "on a thread that was prepared again");
}

// A device's reader may have to post while the front of a full queue waits for what it is about to bring.
void takesPostsWhileItIsFull() {
  Stream stream;
  std::atomic<bool> open = false;
  std::atomic<int> ran = 0;
  stream.post(makeJob([&ran] { ran += 100; }));
  stream.enqueue(makeJob([&open] {
    while (!open) std::this_thread::yield();
  }));
  for (int i = 0; i < 8191; ++i) stream.enqueue(makeJob([] {}));
  for (int i = 0; i < 10; ++i) stream.post(makeJob([&ran] { ++ran; }));
  open = true;
  expect(stream.synchronize(never), "the stream goes on");
  expect(ran == 10, "posts run in their turn, and not where no thread does");
}

}  // namespace

int main() {
  runsJobsInOrder();
  waitingCanBeAbandoned();
  wakesEachWaiterAtItsTurn();
  holdsForOneThread();
  stopsAndStartsAnew();
  takesPostsWhileItIsFull();
  std::puts("stream: ok");
}
