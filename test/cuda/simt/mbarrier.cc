// Phases of mbarriers.
#include "mbarrier.h"

#include <utility>

namespace flowmap::simt {

namespace {

constexpr uint32_t kMostArrivals = (1u << 20) - 1;
constexpr int64_t kMostBytes = (1 << 20) - 1;

BarrierState load(const SharedPlace& place) {
  BarrierState state;
  std::memcpy(&state, place.bytes(), sizeof state);
  return state;
}

Observer* observerOf(const SharedPlace& place) { return place.owner->observer.get(); }

}  // namespace

void Mbarriers::store(const SharedPlace& place, BarrierState state) {
  std::memcpy(place.bytes(), &state, sizeof state);
}

BarrierState Mbarriers::checked(const Thread& t, const Instruction& i, const SharedPlace& place) const {
  const BarrierState state = load(place);
  if (!isWritten(place.shadow(), 8) || state.valid != 1) {
    t.fail(format("%s: there is no initialised mbarrier at %s", i.text, text(place).c_str()));
  }
  return state;
}

void Mbarriers::initialise(Thread& t, const Instruction& i, const SharedPlace& place, uint32_t count) {
  if (count == 0 || count > kMostArrivals) t.fail(format("%s of %u arrivals", i.text, count));
  for (const Waiting& waiting : waiting_) {
    if (waiting.place.key() == place.key()) t.fail(format("%s, for which threads wait", i.text));
  }
  BarrierState state{};
  state.expected = state.pending = count;
  state.valid = 1;
  store(place, state);
  std::memset(place.shadow(), kWritten, 8);
  if (Observer* observer = observerOf(place)) observer->mbarrierStarts(t, i, place.key());
}

void Mbarriers::invalidate(Thread& t, const Instruction& i, const SharedPlace& place) {
  checked(t, i, place);
  std::memset(place.bytes(), kPoison, 8);
  std::memset(place.shadow(), kUnwritten, 8);
  if (Observer* observer = observerOf(place)) observer->mbarrierEnds(t, i, place.key());
}

void Mbarriers::add(const Thread& t, const Instruction& i, const SharedPlace& place, BarrierState& state,
                    int64_t bytes) const {
  const int64_t sum = state.bytes + bytes;
  if (sum > kMostBytes || sum < -kMostBytes) {
    t.fail(format("%s: %lld bytes outstanding in the mbarrier at %s are more than it counts", i.text, (long long)sum,
                  text(place).c_str()));
  }
  state.bytes = sum;
}

/** Stores the state, and ends the phase where it is complete. */
void Mbarriers::settle(const SharedPlace& place, BarrierState state) {
  fruitless_ = 0;
  if (state.pending != 0 || state.bytes != 0) return store(place, state);
  state.phase ^= 1;
  state.pending = state.expected;
  store(place, state);
  Observer* observer = observerOf(place);
  if (observer) observer->mbarrierCompletes(place.key());
  std::vector<Waiting> still;
  for (const Waiting& waiting : std::exchange(waiting_, {})) {
    if (waiting.place.key() != place.key() || waiting.phase == state.phase) {
      still.push_back(waiting);
      continue;
    }
    Thread& t = *waiting.thread;
    t.registers[t.at->d] = 1;
    if (observer) observer->mbarrierPasses(t, place.key());
    t.block->wake(t);
  }
  waiting_ = std::move(still);
}

uint64_t Mbarriers::arrive(Thread& t, const Instruction& i, const SharedPlace& place, uint32_t count, uint32_t bytes,
                           bool mayComplete) {
  BarrierState state = checked(t, i, place);
  if (Observer* observer = observerOf(place)) observer->mbarrierUsed(t, i, place.key());
  const uint64_t before = std::bit_cast<uint64_t>(state);
  add(t, i, place, state, bytes);
  if (count == 0 || count > state.pending) {
    t.fail(format("%s: %u arrivals at the mbarrier at %s, which expects %u more of %u in this phase", i.text, count,
                  text(place).c_str(), uint32_t(state.pending), uint32_t(state.expected)));
  }
  state.pending -= count;
  if (!mayComplete && state.pending == 0) t.fail(format("%s completes the phase", i.text));
  if (Observer* observer = observerOf(place)) observer->mbarrierArrives(t, place.key());
  settle(place, state);
  return before;
}

void Mbarriers::expect(Thread& t, const Instruction& i, const SharedPlace& place, int64_t bytes) {
  BarrierState state = checked(t, i, place);
  if (Observer* observer = observerOf(place)) observer->mbarrierUsed(t, i, place.key());
  add(t, i, place, state, bytes);
  settle(place, state);
}

void Mbarriers::bytesCome(Thread& issuer, const Instruction& i, const SharedPlace& place, uint32_t bytes) {
  BarrierState state = checked(issuer, i, place);
  add(issuer, i, place, state, -int64_t(bytes));
  settle(place, state);
}

bool Mbarriers::test(Thread& t, const Instruction& i, const SharedPlace& place, uint32_t phase) {
  const BarrierState state = checked(t, i, place);
  Observer* observer = observerOf(place);
  if (observer) observer->mbarrierUsed(t, i, place.key());
  if (state.phase == phase) {
    ++fruitless_;
    return false;
  }
  if (observer) observer->mbarrierPasses(t, place.key());
  return true;
}

void Mbarriers::wait(Thread& t, const Instruction& i, const SharedPlace& place, uint32_t phase) {
  if (test(t, i, place, phase)) {
    t.registers[i.d] = 1;
    return;
  }
  --fruitless_;  // it does not spin
  t.status = Status::waiting;
  waiting_.push_back({&t, place, phase});
}

void Mbarriers::describeWaits() {
  for (const Waiting& waiting : waiting_) {
    const BarrierState state = load(waiting.place);
    waiting.thread->waitsFor = format("%s for the end of phase %u at %s, which lacks %u of %u arrivals and %lld bytes",
                                      waiting.thread->at->text, waiting.phase, text(waiting.place).c_str(),
                                      uint32_t(state.pending), uint32_t(state.expected), (long long)state.bytes);
  }
}

}  // namespace flowmap::simt
