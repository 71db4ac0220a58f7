// What threads do together: shfl, vote, match, redux, activemask, elect, barriers; and fences.
#include <algorithm>

#include "block.h"
#include "decoder.h"

namespace flowmap::simt {
namespace {

template <class Function>
void forLanes(uint32_t mask, Function&& function) {
  for (; mask != 0; mask &= mask - 1) function(uint32_t(std::countr_zero(mask)));
}

// ---- shfl: count = mode ----

enum class Shuffle : uint32_t { up, down, butterfly, index };

void shuffle(Warp& warp, uint32_t mask) {
  uint32_t values[32] = {};
  forLanes(mask, [&](uint32_t lane) {
    Thread& t = warp.lane(lane);
    values[lane] = t.read<uint32_t>(t.at->a);
  });
  forLanes(mask, [&](uint32_t lane) {
    Thread& t = warp.lane(lane);
    const Instruction& i = *t.at;
    const uint32_t b = t.read<uint32_t>(i.b) & 31, c = t.read<uint32_t>(i.c);
    const uint32_t clamp = c & 31, segment = c >> 8 & 31;
    const uint32_t last = (lane & segment) | (clamp & ~segment), first = lane & segment;
    uint32_t from = lane;
    bool valid = false;
    switch (Shuffle(i.count)) {
      case Shuffle::up:
        valid = int(lane) - int(b) >= int(last), from = lane - b;
        break;
      case Shuffle::down:
        from = lane + b, valid = from <= last;
        break;
      case Shuffle::butterfly:
        from = lane ^ b, valid = from <= last;
        break;
      case Shuffle::index:
        from = first | (b & ~segment), valid = from <= last;
        break;
    }
    if (!valid) from = lane;
    if (!(mask >> from & 1)) {
      t.fail(format("%s reads lane %u, which is not in the mask 0x%08x", i.text, from, mask));
    }
    t.write<uint32_t>(i.d, values[from]);
    t.registers[i.p] = valid;
  });
}

void decodeShuffle(Statement& s, Decoder& d, Instruction& i) {
  s.expect(s.take("sync"));
  static constexpr const char* kModes[] = {"up", "down", "bfly", "idx"};
  bool known = false;
  for (uint32_t mode = 0; mode < 4; ++mode) {
    if (s.take(kModes[mode])) i.count = mode, known = true;
  }
  s.expect(known && s.takeType() == Type::b32 && s.operands.size() == 5);
  i.d = s.operands[0].slot, i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.c = d.scalar(s, 3), i.e = d.scalar(s, 4);
  if (s.operands[0].hasPredicate) i.p = s.operands[0].predicate;
  i.run = [](Thread& t, const Instruction& i) { t.block->joinCollective(t, i, t.read<uint32_t>(i.e), shuffle); };
}

// ---- vote: count = mode, immediate = source negated ----

enum class Vote : uint32_t { all, any, uniform, ballot };

void vote(Warp& warp, uint32_t mask) {
  uint32_t votes = 0;
  forLanes(mask, [&](uint32_t lane) {
    Thread& t = warp.lane(lane);
    if ((t.registers[t.at->a] != 0) != bool(t.at->immediate)) votes |= 1u << lane;
  });
  forLanes(mask, [&](uint32_t lane) {
    Thread& t = warp.lane(lane);
    switch (Vote(t.at->count)) {
      case Vote::all:
        t.registers[t.at->d] = votes == mask;
        break;
      case Vote::any:
        t.registers[t.at->d] = votes != 0;
        break;
      case Vote::uniform:
        t.registers[t.at->d] = votes == mask || votes == 0;
        break;
      case Vote::ballot:
        t.registers[t.at->d] = votes;
        break;
    }
  });
}

void decodeVote(Statement& s, Decoder& d, Instruction& i) {
  s.expect(s.take("sync"));
  static constexpr const char* kModes[] = {"all", "any", "uni", "ballot"};
  bool known = false;
  for (uint32_t mode = 0; mode < 4; ++mode) {
    if (s.take(kModes[mode])) i.count = mode, known = true;
  }
  s.expect(known && s.takeType() != Type::none && s.operands.size() == 3);
  i.immediate = s.operands[1].negated;
  s.operands[1].negated = false;
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
  i.run = [](Thread& t, const Instruction& i) { t.block->joinCollective(t, i, t.read<uint32_t>(i.b), vote); };
}

// ---- match: count = 1 for .all; immediate = bytes ----

void match(Warp& warp, uint32_t mask) {
  const auto value = [&](uint32_t lane) {
    Thread& t = warp.lane(lane);
    return t.at->immediate == 8 ? t.read<uint64_t>(t.at->a) : t.read<uint32_t>(t.at->a);
  };
  forLanes(mask, [&](uint32_t lane) {
    Thread& t = warp.lane(lane);
    uint32_t same = 0;
    forLanes(mask, [&](uint32_t other) { same |= uint32_t(value(other) == value(lane)) << other; });
    const bool all = same == mask;
    t.write<uint32_t>(t.at->e, t.at->count ? (all ? mask : 0) : same);
    t.registers[t.at->p] = all;
  });
  // Destinations may be sources, so results wait in a temporary register until every lane was compared.
  forLanes(mask, [&](uint32_t lane) {
    Thread& t = warp.lane(lane);
    t.registers[t.at->d] = t.registers[t.at->e];
  });
}

void decodeMatch(Statement& s, Decoder& d, Instruction& i) {
  i.count = s.take("all");
  s.expect((i.count || s.take("any")) && s.take("sync"));
  i.immediate = sizeOf(s.takeType());
  s.expect(s.operands.size() == 3);
  i.d = s.operands[0].slot, i.a = d.scalar(s, 1), i.b = d.scalar(s, 2), i.e = d.temporary();
  if (s.operands[0].hasPredicate) i.p = s.operands[0].predicate;
  i.run = [](Thread& t, const Instruction& i) { t.block->joinCollective(t, i, t.read<uint32_t>(i.b), match); };
}

// ---- redux: count = operation, immediate = signed ----

enum class Reduction : uint32_t { add, min, max, conjunction, disjunction, exclusive };

void reduce(Warp& warp, uint32_t mask) {
  uint32_t result = 0;
  bool first = true;
  forLanes(mask, [&](uint32_t lane) {
    Thread& t = warp.lane(lane);
    const uint32_t a = t.read<uint32_t>(t.at->a);
    const bool less = t.at->immediate ? int32_t(a) < int32_t(result) : a < result;
    if (first) {
      result = a;
    } else {
      switch (Reduction(t.at->count)) {
        case Reduction::add:
          result += a;
          break;
        case Reduction::min:
          result = less ? a : result;
          break;
        case Reduction::max:
          result = less ? result : a;
          break;
        case Reduction::conjunction:
          result &= a;
          break;
        case Reduction::disjunction:
          result |= a;
          break;
        case Reduction::exclusive:
          result ^= a;
          break;
      }
    }
    first = false;
  });
  forLanes(mask, [&](uint32_t lane) {
    Thread& t = warp.lane(lane);
    t.write<uint32_t>(t.at->d, result);
  });
}

void decodeReduction(Statement& s, Decoder& d, Instruction& i) {
  s.expect(s.take("sync"));
  static constexpr const char* kNames[] = {"add", "min", "max", "and", "or", "xor"};
  bool known = false;
  for (uint32_t operation = 0; operation < 6; ++operation) {
    if (s.take(kNames[operation])) i.count = operation, known = true;
  }
  const Type type = s.takeType();
  s.expect(known && sizeOf(type) == 4 && !isFloat(type) && s.operands.size() == 3);
  i.immediate = isSigned(type);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
  i.run = [](Thread& t, const Instruction& i) { t.block->joinCollective(t, i, t.read<uint32_t>(i.b), reduce); };
}

/** One lane of the mask, the lowest, is told that it is the one. */
void elect(Warp& warp, uint32_t mask) {
  const uint32_t leader = uint32_t(std::countr_zero(mask));
  forLanes(mask, [&](uint32_t lane) {
    Thread& t = warp.lane(lane);
    t.write<uint32_t>(t.at->d, leader);
    t.registers[t.at->p] = lane == leader;
  });
}

// ---- barriers ----

/** bar.sync a{, b}: count 0 is every thread. */
void synchronise(Thread& t, const Instruction& i) {
  t.block->joinBarrier(t, i, t.read<uint32_t>(i.a), t.read<uint32_t>(i.b), true);
}
void arrive(Thread& t, const Instruction& i) {
  t.block->joinBarrier(t, i, t.read<uint32_t>(i.a), t.read<uint32_t>(i.b), false);
}

void decodeBarrier(Statement& s, Decoder& d, Instruction& i) {
  if (s.take("warp")) {
    s.expect(s.take("sync") && s.operands.size() == 1);
    i.a = d.scalar(s, 0);
    // Different places may meet here: what counts is the mask.
    i.run = [](Thread& t, const Instruction& i) {
      t.block->joinCollective(t, i, t.read<uint32_t>(i.a), synchroniseWarp, false);
    };
    return;
  }
  if (s.take("cluster")) return decodeClusterBarrier(s, d, i);
  s.take("cta");
  // Aligned barriers must be met by all threads of a warp at one place.
  const int64_t aligned = s.take("aligned") || s.opcode == "bar" ? kAligned : 0;
  const Slot none = d.constant(0);
  if (s.take("red")) {
    static constexpr const char* kNames[] = {"popc", "and", "or"};
    bool known = false;
    for (uint32_t operation = 0; operation < 3; ++operation) {
      if (s.take(kNames[operation])) i.count = operation + 1, known = true;
    }
    const size_t n = s.operands.size();
    s.expect(known && s.takeType() != Type::none && (n == 3 || n == 4));
    i.immediate = aligned | int64_t(s.operands[n - 1].negated);
    s.operands[n - 1].negated = false;
    i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = n == 4 ? d.scalar(s, 2) : none, i.c = d.scalar(s, n - 1);
    i.run = synchronise;
    return;
  }
  const bool arrives = s.take("arrive");
  s.expect((arrives || s.take("sync")) && !s.operands.empty() && s.operands.size() <= 2);
  s.expect(!arrives || s.operands.size() == 2);
  i.immediate = aligned;
  i.a = d.scalar(s, 0);
  i.b = s.operands.size() == 2 ? d.scalar(s, 1) : none;
  i.run = arrives ? arrive : synchronise;
}

void fence(Thread& t, const Instruction& i) {
  if (t.block->observer) t.block->observer->fence(t, i);
}

void startFence(Thread& t, const Instruction&) {
  if (t.block->observer) t.block->observer->startFence(t);
}

void proxyFence(Thread& t, const Instruction&) {
  if (t.block->observer) t.block->observer->proxyFence(t);
}

}  // namespace

void synchroniseWarp(Warp&, uint32_t) {}

void registerWarp(DecodeTable& table) {
  table["shfl"] = decodeShuffle;
  table["vote"] = decodeVote;
  table["match"] = decodeMatch;
  table["redux"] = decodeReduction;
  table["elect"] = [](Statement& s, Decoder& d, Instruction& i) {
    s.expect(s.take("sync") && s.operands.size() == 2);
    i.d = s.operands[0].slot, i.a = d.scalar(s, 1);
    if (s.operands[0].hasPredicate) i.p = s.operands[0].predicate;
    i.run = [](Thread& t, const Instruction& i) { t.block->joinCollective(t, i, t.read<uint32_t>(i.a), elect); };
  };
  table["activemask"] = [](Statement& s, Decoder& d, Instruction& i) {
    s.expect(s.takeType() == Type::b32 && s.operands.size() == 1);
    i.d = d.scalar(s, 0);
    // Threads run one by one: no other lane is sure to be at this place.
    i.run = [](Thread& t, const Instruction& i) { t.write<uint32_t>(i.d, 1u << t.lane); };
  };
  table["bar"] = decodeBarrier;
  table["barrier"] = decodeBarrier;
  table["membar"] = [](Statement& s, Decoder&, Instruction& i) {
    s.expect(s.take("cta") || s.take("gl") || s.take("sys"));
    i.run = fence;
  };
  table["fence"] = [](Statement& s, Decoder&, Instruction& i) {
    if (s.take("mbarrier_init")) {
      s.expect(s.take("release") && s.take("cluster"));
      i.run = startFence;
      return;
    }
    if (s.take("proxy")) {
      // Of all memory, or of a space of it: all is taken for more than shared memory alone.
      s.expect(s.take("async"));
      s.take("shared::cta") || s.take("shared::cluster") || s.take("global");
      i.run = proxyFence;
      return;
    }
    s.take("sc"), s.take("acq_rel");
    s.expect(s.take("cta") || s.take("cluster") || s.take("gpu") || s.take("sys"));
    i.run = fence;
  };
  table["nanosleep"] = [](Statement& s, Decoder& d, Instruction& i) {
    s.expect(s.takeType() == Type::u32 && s.operands.size() == 1);
    i.a = d.scalar(s, 0);
    i.run = [](Thread& t, const Instruction&) { t.block->yield(t); };
  };
}

}  // namespace flowmap::simt
