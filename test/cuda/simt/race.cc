// Checks of accesses against what the shadow remembers.
#include "race.h"

#include <algorithm>

#include "cluster.h"

namespace flowmap::simt {

namespace {

// Reads that no later read follows, per cell of global memory: beyond this the oldest is forgotten, which may miss a
// race and never invents one. In shared memory none is forgotten.
constexpr size_t kGlobalReaders = 8;
constexpr size_t kFirstReaders = 4;  // room for so many at once, rather than for one, two, four

const char* verbOf(Access access) {
  switch (access) {
    case Access::read:
      return "read";
    case Access::write:
      return "write";
    case Access::atomic:
      return "atomic";
  }
  return "";
}

/** A shared address is here block · kPeerStride + the address in the block. */
std::string place(const Block& block, Space space, uint64_t address) {
  if (space == Space::shared) {
    const std::string at = format("shared+0x%llx", (unsigned long long)(address % kPeerStride - kSharedBase));
    const bool alone = block.launch.cluster.count() == 1;
    return alone ? at : at + format(" of block %u of the cluster", uint32_t(address / kPeerStride));
  }
  return format("global 0x%llx (%s)", (unsigned long long)address, block.memory.describe(address, 1).c_str());
}

Cell copyCell(const Cell& cell) {
  Cell copy;
  copy.write = cell.write;
  copy.writeAt = cell.writeAt;
  copy.read = cell.read;
  copy.atomic = cell.atomic;
  copy.plainWrites = cell.plainWrites;
  if (cell.readers) copy.readers = std::make_unique<std::vector<Read>>(*cell.readers);
  return copy;
}

Place placeOf(const Block& block, const Instruction& instruction) {
  return Place(&instruction - block.kernel.code.data()) + 1;
}

const char* whereOf(const Block& block, Place at) { return block.kernel.code[at - 1].where; }

/** Volatile, relaxed, acquiring and releasing accesses may meet each other unordered, as atomics may. */
bool isStrong(const Block& block, Place at) {
  const std::string_view text = block.kernel.code[at - 1].text;
  if (text.starts_with("atom") || text.starts_with("red.")) return true;
  const std::string_view opcode = text.substr(0, text.find(' '));
  for (const char* strong : {".volatile", ".relaxed", ".acquire", ".release"}) {
    if (opcode.find(strong) != std::string_view::npos) return true;
  }
  return false;
}

bool areStrong(const Block& block, Place a, Place b) { return isStrong(block, a) && isStrong(block, b); }

/** log2 of the largest cell that accesses of this alignment and size fill. */
uint32_t granule(uint64_t address, uint32_t size) {
  const uint64_t bits = address | size;
  return bits & 1 ? 0 : bits & 2 ? 1 : 2;
}

/** Calls function(cell, its address) for the cells of a range. */
template <class C, class Copy, class Function>
void forCells(Shadow<C>& shadow, uint64_t address, uint32_t size, Copy&& copy, Function&& function) {
  const uint64_t end = address + size;
  while (address < end) {
    Page<C>& page = shadow.at(address);
    page.refine(granule(address, size), copy);
    const uint64_t base = address / Page<C>::kBytes * Page<C>::kBytes;
    const uint64_t stop = std::min(end, base + Page<C>::kBytes);
    for (; address < stop; address += 1ull << page.shift) function(page.cells[(address - base) >> page.shift], address);
  }
}

}  // namespace

RaceObserver::RaceObserver(RaceLaunch& launch, Block& block)
    : launch_(launch), agents_(block.launch), threads_(agents_.threads), peers_(agents_) {}

void RaceObserver::blockStarts(Block& block) {
  const Index3 grid = block.launch.grid, shape = block.launch.cluster, at = block.index;
  block_ = at.x / shape.x + grid.x / shape.x * (at.y / shape.y + grid.y / shape.y * (at.z / shape.z));
  Knowledge first;
  first.known = std::make_shared<Clock>(agents_.count());
  knowledge_.assign(threads_, first);
  engines_.assign(threads_, 1);
  shared_.clear();
  global_.clear();
  places_.clear();
  peers_.start();
  engineTimes_.assign(agents_.count() - 2 * threads_, 1);
  nextEngine_ = 0;
  mbarriers_.clear();
}

Knowledge& RaceObserver::knowledge(const Thread& thread) { return knowledge_[thread.agent]; }

void RaceObserver::blockEnds(Block& block) {
  peers_.checkEnds(block);
  if (launch_.manyBlocks()) launch_.merge(block, block_, global_);
}

bool RaceObserver::knows(const Thread& thread, Epoch epoch) const {
  const uint32_t self = thread.agent;
  const Knowledge& mine = knowledge_[self];
  if (epoch.agent() == self) return true;
  if (epoch.agent() == threads_ + self) return epoch.clock() <= mine.copied;
  return epoch.clock() <= (*mine.known)[epoch.agent()];
}

bool RaceObserver::knowsBlock(const Thread& thread, const BlockAccess& other) const {
  const Foreign& foreign = knowledge_[thread.agent].foreign;
  if (!foreign) return false;
  const auto found = foreign->find(other.block);
  return found != foreign->end() && other.epoch.clock() <= (*found->second)[other.epoch.agent()];
}

void RaceObserver::access(Thread& thread, const Instruction& instruction, Space space, uint64_t address, uint32_t size,
                          Access access) {
  const uint32_t self = thread.agent;
  check({thread, instruction, {self, knowledge_[self].own}, space, address, access}, size);
}

void RaceObserver::copyAccess(Thread& thread, const Instruction& instruction, Space space, uint64_t address,
                              uint32_t size, Access access) {
  const uint32_t self = thread.agent;
  check({thread, instruction, {threads_ + self, engines_[self]}, space, address, access}, size);
}

void RaceObserver::check(Party party, uint32_t size) {
  if (party.space == Space::shared || party.space == Space::cluster) {
    const uint32_t own = party.thread.block->rank, peer = uint32_t(party.address / kPeerStride);
    const uint32_t owner = peer ? peer - 1 : own;
    party.space = Space::shared;
    party.address = owner * kPeerStride + party.address % kPeerStride;
    if (owner != own) peers_.meet(party.thread, party.instruction, party.address, party.epoch, knowledge(party.thread));
  } else if (party.space != Space::global) {
    return;
  }
  if (party.access == Access::atomic) meet(party);
  checkCells(party, size);
}

void RaceObserver::checkCells(Party party, uint32_t size) {
  const bool global = party.space == Space::global;
  if (global && launch_.ordered() && launch_.manyBlocks()) checkOtherBlocks(party, size);
  forCells(global ? global_ : shared_, party.address, size, copyCell, [&](Cell& cell, uint64_t address) {
    party.address = address;
    if (party.access == Access::read)
      checkRead(cell, party);
    else
      checkWrite(cell, party);
  });
}

void RaceObserver::checkRead(Cell& cell, const Party& party) {
  if (cell.read.epoch == party.epoch) return;
  if (cell.write.clock() && !follows(party, cell.write)) {
    report(party, cell.atomic ? "atomic" : "write", cell.write, cell.writeAt);
  }
  const auto stale = [&](const Read& read) { return knows(party.thread, read.epoch); };
  if (cell.read.epoch.clock() && !stale(cell.read)) {
    if (!cell.readers) {
      cell.readers = std::make_unique<std::vector<Read>>();
      cell.readers->reserve(kFirstReaders);
    }
    std::vector<Read>& readers = *cell.readers;
    // What this read follows says nothing that this read does not say. Looked for only when the list would grow.
    if (readers.size() == readers.capacity()) std::erase_if(readers, stale);
    if (party.space == Space::global && readers.size() >= kGlobalReaders) readers.erase(readers.begin());
    readers.push_back(cell.read);
  }
  cell.read = {party.epoch, placeOf(*party.thread.block, party.instruction)};
}

void RaceObserver::checkWrite(Cell& cell, const Party& party) {
  const bool atomic = party.access == Access::atomic;
  if (cell.write.clock() && !(atomic && cell.atomic) && !follows(party, cell.write)) {
    report(party, cell.atomic ? "atomic" : "write", cell.write, cell.writeAt);
  }
  const auto checkReader = [&](const Read& read) {
    if (read.epoch.clock() && !knows(party.thread, read.epoch)) report(party, "read", read.epoch, read.at);
  };
  checkReader(cell.read);
  if (cell.readers) {
    for (const Read& read : *cell.readers) checkReader(read);
    // Shared memory is read again by as many.
    if (party.space == Space::shared)
      cell.readers->clear();
    else
      cell.readers.reset();
  }
  cell.read.epoch = Epoch(cell.read.epoch.agent(), 0);  // its place stays: that it was read matters to other blocks
  cell.write = party.epoch;
  cell.writeAt = placeOf(*party.thread.block, party.instruction);
  cell.atomic = atomic;
  cell.plainWrites |= !atomic;
}

void RaceObserver::report(const Party& party, const char* verb, Epoch other, Place at) const {
  const Block& block = *party.thread.block;
  if (areStrong(block, at, placeOf(block, party.instruction))) return;
  const char* lack =
      party.engine && knows(party.thread, other) ? "have no fence.proxy.async between them" : "are not ordered";
  party.thread.fail(format("race at %s: %s by %s (%s) and %s by %s (%s) %s",
                           place(*party.thread.block, party.space, party.address).c_str(), verb,
                           agents_.name(other.agent()).c_str(), whereOf(*party.thread.block, at), verbOf(party.access),
                           agents_.name(party.epoch.agent()).c_str(), party.instruction.where, lack));
}

void RaceObserver::learn(std::span<Thread* const> from, std::span<Thread* const> to) {
  std::vector<const Knowledge*> all;
  std::vector<uint32_t> indices;
  for (const Thread* thread : from) {
    all.push_back(&knowledge(*thread));
    indices.push_back(thread->agent);
  }
  if (all.empty()) return;
  const Knowledge news = joined(all, indices, threads_);
  for (const Thread* thread : to) {
    Knowledge& mine = knowledge(*thread);
    mine.known = news.known;
    mine.fenced = news.fenced;
    mine.foreign = news.foreign;
    mine.proxied = news.proxied;
  }
  for (const Thread* thread : from) tick(knowledge(*thread).own);
}

void RaceObserver::barrier(Block&, std::span<Thread* const> arrived, std::span<Thread* const> waiting) {
  learn(arrived, waiting);
}

void RaceObserver::collective(Block&, std::span<Thread* const> threads, bool ordersMemory) {
  if (ordersMemory) learn(threads, threads);
}

void RaceObserver::fence(Thread& thread, const Instruction&) {
  Knowledge& mine = knowledge(thread);
  mine.fenced = snapshot(mine, thread.agent, threads_);
  tick(mine.own);
}

void RaceObserver::copyCommit(Thread& thread) { tick(engines_[thread.agent]); }

void RaceObserver::copyWait(Thread& thread, uint32_t pending) {
  const uint32_t committed = engines_[thread.agent] - 1;
  uint32_t& copied = knowledge(thread).copied;
  if (committed > pending) copied = std::max(copied, committed - pending);
}

void RaceObserver::threadEnds(Thread& thread) { peers_.threadEnds(thread, knowledge(thread)); }

void RaceObserver::clusterArrives(Thread& thread, bool releases) {
  Knowledge& mine = knowledge(thread);
  peers_.arrive(thread.agent, mine, releases);
  if (releases) tick(mine.own);
}

void RaceObserver::clusterCompletes() {
  peers_.complete();
  publishMbarriers();
}

void RaceObserver::clusterWaits(Thread& thread) { peers_.wait(thread.agent, knowledge(thread)); }

// Every atomic acquires what was released at its address, and releases what its thread's last fence covered. (PTX wants
// a fence after an acquiring atomic too; kernels that go on through a barrier commonly leave it out.)
void RaceObserver::meet(const Party& party) {
  Knowledge& mine = knowledge(party.thread);
  const bool global = party.space == Space::global;
  std::unique_lock<std::mutex> lock(launch_.mutex_, std::defer_lock);
  if (global) lock.lock();
  std::map<uint64_t, Released>& places = global ? launch_.places_ : places_;
  const auto place = places.find(party.address);
  if (place != places.end()) {
    auto foreign = std::make_shared<ForeignClocks>();
    for (const auto& [block, clock] : place->second) {
      if (block == block_)
        mine.known = join(mine.known, clock);
      else
        (*foreign)[block] = clock;
    }
    if (!foreign->empty()) mine.foreign = join(mine.foreign, foreign);
  }
  if (!mine.fenced) return;
  Released& released = places[party.address];
  released[block_] = join(released[block_], mine.fenced);
  if (!mine.foreign) return;
  for (const auto& [block, clock] : *mine.foreign) released[block] = join(released[block], clock);
}

// Only where atomics may order blocks, which then run one after the other.
void RaceObserver::checkOtherBlocks(const Party& party, uint32_t size) {
  const auto copy = [](const Trace& trace) { return trace; };
  forCells(launch_.traces_, party.address, size, copy, [&](Trace& trace, uint64_t address) {
    const auto check = [&](const BlockAccess& other, const char* verb) {
      if (!other.at || knowsBlock(party.thread, other)) return;
      const Block& block = *party.thread.block;
      if (areStrong(block, other.at, placeOf(block, party.instruction))) return;
      party.thread.fail(format("race at %s: %s by %s (%s) and %s by %s (%s) are not ordered",
                               place(*party.thread.block, Space::global, address).c_str(), verb,
                               agents_.name(other.epoch.agent(), other.block).c_str(),
                               whereOf(*party.thread.block, other.at), verbOf(party.access),
                               agents_.name(party.epoch.agent(), block_).c_str(), party.instruction.where));
    };
    if (!(party.access == Access::atomic && trace.write.atomic))
      check(trace.write, trace.write.atomic ? "atomic" : "write");
    if (party.access != Access::read) check(trace.read, "read");
  });
}

RaceLaunch::RaceLaunch(const Launch& launch)
    : manyBlocks_(launch.grid.count() > launch.cluster.count()), ordered_(launch.kernel->ordered), agents_(launch) {}

std::unique_ptr<Observer> RaceLaunch::block(Block& block) { return std::make_unique<RaceObserver>(*this, block); }

void RaceLaunch::merge(Block& block, uint32_t index, Shadow<Cell>& shadow) {
  const std::lock_guard lock(mutex_);
  shadow.each([&](uint64_t base, Page<Cell>& page) {
    Page<Trace>& traces = traces_.at(base);
    page.refine(traces.shift, copyCell);
    traces.refine(page.shift, [](const Trace& trace) { return trace; });
    for (size_t i = 0; i < page.cells.size(); ++i) {
      mergeCell(block, base + (i << page.shift), index, page.cells[i], traces.cells[i]);
    }
  });
}

void RaceLaunch::mergeCell(Block& block, uint64_t address, uint32_t index, const Cell& cell, Trace& trace) {
  const auto fail = [&](const BlockAccess& other, const char* verb, uint32_t agent, const char* mine, Place at) {
    if (areStrong(block, other.at, at)) return;
    throw Defect(format("race at %s: %s by %s (%s) and %s by %s (%s) are not ordered, kernel %s",
                        place(block, Space::global, address).c_str(), verb,
                        agents_.name(other.epoch.agent(), other.block).c_str(), whereOf(block, other.at), mine,
                        agents_.name(agent, index).c_str(), whereOf(block, at), block.kernel.readable.c_str()));
  };
  const bool writes = cell.write.clock() != 0, reads = cell.read.at != 0;
  if (!ordered_) {
    const char* theirs = trace.write.atomic ? "atomic" : "write";
    if (writes && trace.write.at && (cell.plainWrites || !trace.write.atomic)) {
      fail(trace.write, theirs, cell.write.agent(), "write", cell.writeAt);
    }
    if (writes && trace.read.at) fail(trace.read, "read", cell.write.agent(), "write", cell.writeAt);
    if (reads && trace.write.at) fail(trace.write, theirs, cell.read.epoch.agent(), "read", cell.read.at);
  }
  if (writes) {
    trace.write = {cell.write, index, cell.writeAt, !cell.plainWrites};
  }
  if (reads) trace.read = {cell.read.epoch, index, cell.read.at, 0};
}

}  // namespace flowmap::simt
