// What blocks of a cluster do together: mapa, getctarank, barrier.cluster.
#include "cluster.h"
#include "decoder.h"

namespace flowmap::simt {
namespace {

constexpr int64_t kReleases = 4;  // beside kAligned, in Instruction::immediate

/** mapa: count = bytes of the address. The window of a generic address is above what is replaced. */
template <class T>
void mapAddress(Thread& t, const Instruction& i) {
  const uint64_t address = t.read<T>(i.a), rank = t.read<uint32_t>(i.b);
  const uint32_t size = t.block->cluster.size();
  if (rank >= size) t.fail(format("%s: block %llu of a cluster of %u", i.text, (unsigned long long)rank, size));
  if (sizeof(T) == 8 && i.space == Space::generic && (address & kWindowMask) != kSharedWindow) {
    t.fail(format("%s of 0x%llx, which is not in shared memory", i.text, (unsigned long long)address));
  }
  const uint64_t window = address & kWindowMask;
  t.write<T>(i.d, T(window + (rank + 1) * kPeerStride + address % kPeerStride));
}

template <class T>
void rankOf(Thread& t, const Instruction& i) {
  const uint64_t peer = (uint64_t(t.read<T>(i.a)) & ~kWindowMask) / kPeerStride;
  t.write<uint32_t>(i.d, peer ? uint32_t(peer - 1) : t.block->rank);
}

void takeAddress(Statement& s, Instruction& i) {
  i.space = s.take("shared::cluster") ? Space::cluster : Space::generic;
}

void decodeMap(Statement& s, Decoder& d, Instruction& i) {
  takeAddress(s, i);
  const Type type = s.takeType();
  s.expect((type == Type::u32 && i.space == Space::cluster) || type == Type::u64);
  s.expect(s.operands.size() == 3);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1), i.b = d.scalar(s, 2);
  i.run = type == Type::u32 ? mapAddress<uint32_t> : mapAddress<uint64_t>;
}

void decodeRank(Statement& s, Decoder& d, Instruction& i) {
  takeAddress(s, i);
  const Type type = s.takeType();
  s.expect((type == Type::u32 || type == Type::u64) && s.operands.size() == 2);
  i.d = d.scalar(s, 0), i.a = d.scalar(s, 1);
  i.run = type == Type::u32 ? rankOf<uint32_t> : rankOf<uint64_t>;
}

}  // namespace

void decodeClusterBarrier(Statement& s, Decoder&, Instruction& i) {
  const bool arrives = s.take("arrive");
  s.expect(arrives || s.take("wait"));
  if (s.take("aligned")) i.immediate |= kAligned;
  s.expect(s.operands.empty());
  if (arrives) {
    const bool relaxed = s.take("relaxed");
    if (!relaxed) s.take("release"), i.immediate |= kReleases;
    i.run = [](Thread& t, const Instruction& i) { t.block->cluster.arrive(t, i, i.immediate & kReleases); };
  } else {
    s.take("acquire");
    i.run = [](Thread& t, const Instruction& i) { t.block->cluster.wait(t, i); };
  }
}

void registerCluster(DecodeTable& table) {
  table["mapa"] = decodeMap;
  table["getctarank"] = decodeRank;
}

}  // namespace flowmap::simt
