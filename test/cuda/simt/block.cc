// The life of a block: start, scheduler, collectives, barriers, reports.
#include "block.h"

#include <algorithm>

#include "cluster.h"

namespace flowmap::simt {

namespace {

// How long a thread runs before another gets its turn, if it does not block: spinning on a flag of another thread must
// end.
constexpr uint64_t kFixedBudget = 1 << 20;

uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

}  // namespace

std::string text(Index3 i) { return format("(%u,%u,%u)", i.x, i.y, i.z); }

std::string Thread::describe() const {
  return format("kernel %s, thread %s, block %s, %s", block->kernel.readable.c_str(), text(id).c_str(),
                text(block->index).c_str(),
                at && *at->where ? at->where : format("PTX line %u", at ? at->line : 0).c_str());
}

void Thread::fail(const std::string& what) const { throw Defect(what + ", " + describe()); }

Block::Block(const Launch& l, DeviceMemory& m, Cluster& of, uint32_t r, uint64_t seed)
    : launch(l), memory(m), kernel(*l.kernel), cluster(of), rank(r), seed_(seed) {
  const uint64_t count = launch.block.count();
  threads.resize(count);
  warps.resize((count + 31) / 32);
  registers_.resize(count * kernel.image.size());
  local_.resize(count * kernel.localBytes);
  shared.resize(kernel.sharedBytes + launch.dynamicSharedBytes);
  sharedShadow.resize(shared.size() + 8);
}

Block::~Block() = default;

uint64_t Block::random() { return state_ = mix(state_); }

void Block::start(Index3 at, std::shared_ptr<Observer> of) {
  index = at;
  instructions = 0;
  state_ = mix(seed_ ^ mix((uint64_t(at.z) << 42) + (uint64_t(at.y) << 21) + at.x));
  std::fill(shared.begin(), shared.end(), kPoison);
  std::fill(sharedShadow.begin(), sharedShadow.end(), kUnwritten);
  std::fill(local_.begin(), local_.end(), kPoison);
  barriers = {};
  ready_.clear();
  live_ = uint32_t(threads.size());
  for (size_t w = 0; w < warps.size(); ++w) {
    const uint32_t first = uint32_t(32 * w), lanes = std::min(32u, live_ - first);
    const uint32_t mask = lanes == 32 ? ~0u : (1u << lanes) - 1;
    warps[w] = {this, first, mask, mask, {}};
  }
  for (uint32_t i = 0; i < threads.size(); ++i) startThread(i);
  observer = std::move(of);
}

void Block::startThread(uint32_t i) {
  Thread& t = threads[i];
  const Index3 size = launch.block;
  t.registers = registers_.data() + size_t(i) * kernel.image.size();
  t.next = kernel.code.data();
  t.at = nullptr;
  t.status = Status::ready;
  t.index = i;
  t.agent = uint32_t(rank * threads.size() + i);
  t.lane = i % 32;
  t.id = {i % size.x, i / size.x % size.y, i / (size.x * size.y)};
  t.block = this;
  t.warp = &warps[i / 32];
  t.local = local_.data() + size_t(i) * kernel.localBytes;
  t.copies.reset();
  std::copy(kernel.image.begin(), kernel.image.end(), t.registers);
  for (const auto& [slot, what] : kernel.specials) t.registers[slot] = special(t, what);
  ready_.push_back(&t);
}

void Block::turn() {
  Thread& t = *pick();
  execute(t);
  if (t.status == Status::ready) ready_.push_back(&t);
}

Thread* Block::pick() {
  if (seed_) std::swap(ready_.front(), ready_[random() % ready_.size()]);
  Thread* t = ready_.front();
  ready_.pop_front();
  return t;
}

/** With a seed, turns are of all magnitudes: one instruction up to thousands. */
uint64_t Block::budget() { return seed_ ? 1 + random() % (1ull << (random() % 13)) : kFixedBudget; }

void Block::execute(Thread& t) {
  const uint64_t limit = budget();
  uint64_t executed = 0;
  yields_ = false;
  while (t.status == Status::ready && executed < limit && !yields_) {
    const Instruction& i = *t.next++;
    ++executed;
    if (t.registers[i.guard] == i.skipIf) continue;
    t.at = &i;
    i.run(t, i);
  }
  instructions += executed;
}

void Block::yield(Thread&) { yields_ = true; }

void Block::wake(Thread& t) {
  t.status = Status::ready;
  ready_.push_back(&t);
}

// ---- collectives of a warp ----

void Block::joinCollective(Thread& t, const Instruction& i, uint32_t mask, Collective complete, bool samePlace) {
  Warp& warp = *t.warp;
  const uint32_t self = 1u << t.lane;
  if (!(mask & self)) t.fail(format("%s with mask 0x%08x, which lacks the calling lane %u", i.text, mask, t.lane));
  size_t found = warp.pending.size();
  for (size_t p = 0; p < warp.pending.size(); ++p) {
    const Warp::Pending& other = warp.pending[p];
    const Thread& waiter = warp.lane(uint32_t(std::countr_zero(other.arrived)));
    if (other.complete == complete && other.mask == mask && (!samePlace || waiter.at == &i)) {
      found = p;
    } else if ((other.arrived & mask) && (other.mask & self)) {
      // Each waits for the other: neither can end.
      t.fail(format("divergent collectives: lane %u is in %s (mask 0x%08x) while lane %u waits in %s (mask 0x%08x, %s)",
                    t.lane, i.text, mask, waiter.lane, waiter.at->text, other.mask, waiter.at->where));
    }
  }
  if (found == warp.pending.size()) warp.pending.push_back({complete, mask, 0});
  warp.pending[found].arrived |= self;
  t.status = Status::collective;
  completeIfFull(warp, found);
}

/** Exited lanes are not waited for. */
void Block::completeIfFull(Warp& warp, size_t index) {
  const Warp::Pending pending = warp.pending[index];
  if (pending.arrived != (pending.mask & warp.live)) return;
  warp.pending.erase(warp.pending.begin() + ptrdiff_t(index));
  pending.complete(warp, pending.arrived);
  std::array<Thread*, 32> lanes;
  size_t count = 0;
  for (uint32_t mask = pending.arrived; mask != 0; mask &= mask - 1) {
    lanes[count++] = &warp.lane(uint32_t(std::countr_zero(mask)));
  }
  if (observer) observer->collective(*this, {lanes.data(), count}, pending.complete == synchroniseWarp);
  for (size_t lane = 0; lane < count; ++lane) wake(*lanes[lane]);
}

// ---- barriers of the block ----

void Block::joinBarrier(Thread& t, const Instruction& i, uint32_t id, uint32_t count, bool waits) {
  if (id >= barriers.size()) t.fail(format("%s: there are 16 barriers, not %u", i.text, id));
  if (count % 32 != 0) t.fail(format("%s: %u threads are not a multiple of the warp", i.text, count));
  if (count > (threads.size() + 31) / 32 * 32)
    t.fail(format("%s: the block has only %zu threads", i.text, threads.size()));
  Barrier& barrier = barriers[id];
  const auto threadsOf = [&](uint32_t n) { return n ? n : uint32_t((threads.size() + 31) / 32 * 32); };
  if (barrier.arrived.empty()) {
    barrier.expected = count;
  } else if (threadsOf(barrier.expected) != threadsOf(count)) {
    const Thread& first = *barrier.arrived.front();
    t.fail(format("barrier %u with %u threads, while thread %u came with %u (%s)", id, count, first.index,
                  barrier.expected, first.at->where));
  }
  if (waits && (i.immediate & kAligned)) {
    const Thread*& other = barrier.firstOfWarp[t.index / 32];
    if (!other) {
      other = &t;
    } else if (other->at != &i) {
      t.fail(format("divergent barrier: %s, while thread %u of the same warp waits in %s (%s)", i.text, other->index,
                    other->at->text, other->at->where));
    }
  }
  barrier.arrived.push_back(&t);
  if (waits) {
    barrier.waiting.push_back(&t);
    t.status = Status::barrier;
  }
  const size_t expected = barrier.expected ? barrier.expected : live_;
  if (barrier.arrived.size() >= expected) completeBarrier(barrier);
}

void Block::completeBarrier(Barrier& barrier) {
  if (observer) observer->barrier(*this, barrier.arrived, barrier.waiting);
  // bar.red: 1 popc, 2 and, 3 or, of the waiting threads' predicates.
  uint64_t ones = 0;
  const auto reduces = [](const Thread* t) { return t->at->count != 0; };
  const auto source = [](const Thread* t) {
    return (t->registers[t->at->c] != 0) != bool(t->at->immediate & kNegatedSource);
  };
  for (const Thread* t : barrier.waiting) ones += reduces(t) && source(t);
  std::vector<Thread*> waiting = std::move(barrier.waiting);
  barrier = {};
  for (Thread* t : waiting) {
    switch (t->at->count) {
      case 1:
        t->write<uint32_t>(t->at->d, uint32_t(ones));
        break;
      case 2:
        t->registers[t->at->d] = ones == waiting.size();
        break;
      case 3:
        t->registers[t->at->d] = ones != 0;
        break;
      default:
        break;
    }
    wake(*t);
  }
}

void Block::threadEnds(Thread& t) {
  if (observer) observer->threadEnds(t);
  t.status = Status::done;
  --live_;
  t.warp->live &= ~(1u << t.lane);
  for (size_t p = t.warp->pending.size(); p-- > 0;) completeIfFull(*t.warp, p);
  for (Barrier& barrier : barriers) {
    if (!barrier.arrived.empty() && barrier.expected == 0 && barrier.arrived.size() >= live_) completeBarrier(barrier);
  }
  cluster.threadEnds(t);
}

// ---- reports ----

std::string Block::waits() const {
  std::string report;
  for (size_t i = 0; i < threads.size();) {
    const Thread& first = threads[i];
    size_t end = i + 1;
    while (end < threads.size() && threads[end].status == first.status && threads[end].at == first.at) ++end;
    report += i + 1 == end ? format(" thread %zu", i) : format(" threads %zu-%zu", i, end - 1);
    if (first.status == Status::done) {
      report += " ended;";
    } else {
      const std::string what = first.status == Status::waiting ? first.waitsFor : first.at->text;
      report += format(" wait in %s (%s);", what.c_str(), first.at->where);
    }
    i = end;
  }
  return report;
}

void Block::badAccess(Thread& t, Space space, uint64_t address, uint32_t size, Access kind) {
  const char* verb = kind == Access::read ? "read" : kind == Access::write ? "write" : "atomic operation";
  const char* name = space == Space::shared      ? "shared "
                     : space == Space::local     ? "local "
                     : space == Space::parameter ? "parameter "
                                                 : "";
  const std::string access = format("%s of %u bytes at %s0x%llx", verb, size, name, (unsigned long long)address);
  if (address & (size - 1)) t.fail(access + ", which is misaligned");
  if (space == Space::global) {
    if (memory.valid(address, size))
      t.fail(access + ", which was never written (" + memory.describe(address, size) + ")");
    t.fail(access + ", " + memory.describe(address, size));
  }
  const uint64_t base = space == Space::shared ? kSharedBase : space == Space::local ? kLocalBase : 0;
  const uint64_t bytes = space == Space::shared  ? shared.size()
                         : space == Space::local ? kernel.localBytes
                                                 : kernel.parameterBytes;
  if (space == Space::parameter && kind != Access::read) t.fail(access + ", which is read-only");
  if (address < base) t.fail(access + format(", before its start at 0x%llx", (unsigned long long)base));
  if (address + size > base + bytes) {
    t.fail(access + format(", %llu bytes past the end of %llu bytes",
                           (unsigned long long)(address + size - base - bytes), (unsigned long long)bytes));
  }
  t.fail(access + ", which was never written");
}

}  // namespace flowmap::simt
