// mbarrier.*: init, inval, arrive, expect_tx, complete_tx, test_wait, try_wait.
#include "cluster.h"
#include "decoder.h"

namespace flowmap::simt {
namespace {

constexpr int64_t kParity = 1, kNoComplete = 2;

SharedPlace placeOf(Thread& t, const Instruction& i) {
  return sharedPlace(t, i, i.space, t.registers[i.a] + int32_t(i.count), 8, 8);
}

Mbarriers& barriersOf(Thread& t) { return t.block->cluster.mbarriers(); }

void initialise(Thread& t, const Instruction& i) {
  barriersOf(t).initialise(t, i, placeOf(t, i), t.read<uint32_t>(i.b));
}
void invalidate(Thread& t, const Instruction& i) { barriersOf(t).invalidate(t, i, placeOf(t, i)); }

// b: arrivals; c: bytes.
void arrive(Thread& t, const Instruction& i) {
  const uint64_t before = barriersOf(t).arrive(t, i, placeOf(t, i), t.read<uint32_t>(i.b), t.read<uint32_t>(i.c),
                                               !(i.immediate & kNoComplete));
  t.registers[i.d] = before;
}

void expect(Thread& t, const Instruction& i) { barriersOf(t).expect(t, i, placeOf(t, i), t.read<uint32_t>(i.b)); }
void complete(Thread& t, const Instruction& i) {
  barriersOf(t).expect(t, i, placeOf(t, i), -int64_t(t.read<uint32_t>(i.b)));
}

/** b: a parity, or the state that an arrival gave. */
uint32_t phaseOf(Thread& t, const Instruction& i) {
  if (i.immediate & kParity) return t.read<uint32_t>(i.b) & 1;
  const BarrierState state = std::bit_cast<BarrierState>(t.registers[i.b]);
  if (state.valid != 1)
    t.fail(format("%s: 0x%llx is no state that an arrival gave", i.text, (unsigned long long)t.registers[i.b]));
  return uint32_t(state.phase);
}

void wait(Thread& t, const Instruction& i) { barriersOf(t).wait(t, i, placeOf(t, i), phaseOf(t, i)); }

void test(Thread& t, const Instruction& i) {
  t.registers[i.d] = barriersOf(t).test(t, i, placeOf(t, i), phaseOf(t, i));
  if (!t.registers[i.d]) t.block->yield(t);
}

/** The order of memory that an arrival or a wait has by default; the weaker one is not known here. */
void takeOrder(Statement& s, const char* order) {
  if (s.take(order)) s.expect(s.take("cta") || s.take("cluster"));
}

void takePlace(Statement& s, Decoder& d, Instruction& i, size_t operand) {
  i.space = s.take("shared::cluster")                   ? Space::cluster
            : s.take("shared::cta") || s.take("shared") ? Space::shared
                                                        : Space::generic;
  int64_t offset = 0;
  d.address(s, operand, i.a, offset);
  i.count = uint32_t(offset);
  s.expect(s.takeType() == Type::b64);
}

void decodeArrive(Statement& s, Decoder& d, Instruction& i) {
  const bool bytes = s.take("expect_tx");
  if (s.take("noComplete")) i.immediate |= kNoComplete;
  takeOrder(s, "release");
  takePlace(s, d, i, 1);
  const size_t n = s.operands.size();
  i.d = d.scalar(s, 0);
  i.b = i.c = d.constant(0);
  if (bytes) {
    s.expect(n == 3 && !i.immediate);
    i.b = d.constant(1), i.c = d.scalar(s, 2);
  } else {
    s.expect(n == 2 || n == 3);
    i.b = n == 3 ? d.scalar(s, 2) : d.constant(1);
  }
  i.run = arrive;
}

void decodeWait(Statement& s, Decoder& d, Instruction& i, bool blocks) {
  if (s.take("parity")) i.immediate |= kParity;
  takeOrder(s, "acquire");
  takePlace(s, d, i, 1);
  s.expect(i.space != Space::cluster);
  // try_wait may name how long it waits, which changes nothing here.
  s.expect(s.operands.size() == 3 || (blocks && s.operands.size() == 4));
  i.d = d.scalar(s, 0), i.b = d.scalar(s, 2);
  i.run = blocks ? wait : test;
}

void decode(Statement& s, Decoder& d, Instruction& i) {
  d.kernel().asynchronous = true;
  if (s.take("arrive")) return decodeArrive(s, d, i);
  if (s.take("try_wait")) return decodeWait(s, d, i, true);
  if (s.take("test_wait")) return decodeWait(s, d, i, false);
  const bool starts = s.take("init"), ends = s.take("inval"), expects = s.take("expect_tx");
  s.expect(starts || ends || expects || s.take("complete_tx"));
  if (!starts && !ends && s.take("relaxed")) s.expect(s.take("cta") || s.take("cluster"));
  takePlace(s, d, i, 0);
  s.expect(s.operands.size() == (ends ? 1 : 2));
  if (!ends) i.b = d.scalar(s, 1);
  i.run = starts ? initialise : ends ? invalidate : expects ? expect : complete;
}

}  // namespace

void registerMbarriers(DecodeTable& table) { table["mbarrier"] = decode; }

}  // namespace flowmap::simt
