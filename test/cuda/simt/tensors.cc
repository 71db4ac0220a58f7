// The bulk tensor copies (TMA): a box of a tensor of 1 to 5 dimensions, described by a tensor map, to or from shared
// memory, where its rows lie one after the other, swizzled as the map says. What lies outside the tensor is read as
// zero and not written.
#include <algorithm>

#include "bulk.h"
#include "cluster.h"
#include "swizzle.h"

namespace flowmap::simt {

namespace {

// list: shared address, map, mbarrier, mask of blocks, then the coordinates.
enum TensorOperand : uint32_t { kShared, kMap, kBarrier, kMask, kCoordinates };

constexpr uint32_t kChunk = 16, kAlignment = 128;

TensorMap readMap(Thread& t, const Instruction& i, uint64_t address) {
  TensorMap map;
  constexpr uint32_t kPart = 64;
  uint8_t bytes[2 * kPart];
  for (uint32_t part = 0; part < 2; ++part) {
    std::memcpy(bytes + part * kPart,
                t.block->access(t, i, Space::generic, address + part * kPart, kPart, Access::read), kPart);
  }
  std::memcpy(&map, bytes, sizeof map);
  if (map.magic != TensorMap::kMagic) {
    t.fail(format("%s: there is no tensor map at 0x%llx", i.text, (unsigned long long)address));
  }
  if (i.count && map.rank != i.count) {
    t.fail(format("%s: the tensor map has %u dimensions", i.text, uint32_t(map.rank)));
  }
  return map;
}

uint32_t boxBytes(const TensorMap& map) {
  uint32_t bytes = map.bytes;
  for (uint32_t d = 0; d < map.rank; ++d) bytes *= map.box[d];
  return bytes;
}

/** A piece of a row of the box: where in shared memory, and where in the tensor if it is inside. */
struct Piece {
  uint32_t offset;  // in the box, before swizzling
  uint64_t global;
  uint32_t bytes;
  bool inside;
};

/** Calls function(Piece) for all of the box, in pieces that swizzling leaves whole. */
template <class Function>
void forPieces(Thread& t, const Instruction& i, const TensorMap& map, Function&& function) {
  int64_t first[TensorMap::kMostRank];
  for (uint32_t d = 0; d < map.rank; ++d) first[d] = t.read<int32_t>(i.list[kCoordinates + d]);
  const uint32_t row = map.box[0] * map.bytes, rows = boxBytes(map) / row;
  const int64_t size = map.sizes[0];
  // The part of a row that is inside, in bytes from its start.
  const uint32_t begin = uint32_t(std::clamp<int64_t>(-first[0], 0, map.box[0])) * map.bytes;
  const uint32_t end = uint32_t(std::clamp<int64_t>(size - first[0], 0, map.box[0])) * map.bytes;
  const uint32_t step = map.swizzleWidth ? kChunk : row;
  for (uint32_t r = 0; r < rows; ++r) {
    uint32_t rest = r;
    bool inside = begin < end;
    int64_t at = first[0] * map.bytes;
    for (uint32_t d = 1; d < map.rank; ++d) {
      const int64_t c = first[d] + rest % map.box[d];
      rest /= map.box[d];
      inside &= c >= 0 && c < int64_t(map.sizes[d]);
      at += c * int64_t(map.strides[d]);
    }
    const uint32_t from = inside ? begin : row, to = inside ? end : row;
    for (uint32_t chunk = 0; chunk < row; chunk += step) {
      const uint32_t stop = chunk + step;
      const uint32_t low = std::clamp(from, chunk, stop), high = std::clamp(to, low, stop);
      const auto piece = [&](uint32_t a, uint32_t b, bool is) {
        if (a < b) function(Piece{r * row + a, map.base + uint64_t(at + a), b - a, is});
      };
      piece(chunk, low, false);
      piece(low, high, true);
      piece(high, stop, false);
    }
  }
}

/** Ranges that follow each other are one. */
void addRange(std::vector<BulkCopy::Range>& ranges, uint64_t address, uint32_t bytes) {
  if (!ranges.empty() && ranges.back().address + ranges.back().bytes == address) {
    ranges.back().bytes += bytes;
  } else {
    ranges.push_back({Space::global, address, bytes});
  }
}

uint32_t alignmentOf(const TensorMap& map) { return std::max<uint32_t>(kAlignment, map.swizzleWidth * 8u); }

uint64_t inBox(const TensorMap& map, const SharedPlace& box, uint32_t offset) {
  // The pattern goes by addresses; a block's memory starts at a multiple of it.
  return box.owner->rank * kPeerStride + swizzled(box.address + offset, map.swizzleWidth);
}

void load(Thread& t, const Instruction& i) {
  const TensorMap map = readMap(t, i, t.registers[i.list[kMap]]);
  auto copy = std::make_shared<BulkCopy>();
  copy->issuer = &t, copy->at = &i;
  copy->barrierBytes = boxBytes(map);
  const auto targets =
      bulkTargets(t, i, {i.list[kShared], i.list[kBarrier], i.list[kMask]}, boxBytes(map), alignmentOf(map));
  for (const BulkTarget& target : targets) {
    copy->mbarriers.push_back(target.mbarrier);
    copy->writes.push_back({Space::shared, target.to.key(), boxBytes(map)});
  }
  forPieces(t, i, map, [&](const Piece& piece) {
    if (piece.inside) addRange(copy->reads, piece.global, piece.bytes);
    for (const BulkTarget& target : targets) {
      copy->runs.push_back({inBox(map, target.to, piece.offset), piece.global, piece.bytes, !piece.inside});
    }
  });
  t.block->cluster.bulk().issue(std::move(copy));
}

template <bool Adds>
void store(Thread& t, const Instruction& i) {
  const TensorMap map = readMap(t, i, t.registers[i.list[kMap]]);
  auto copy = std::make_shared<BulkCopy>();
  copy->issuer = &t, copy->at = &i;
  copy->from = Space::shared, copy->to = Space::global;
  if (Adds) copy->combine = sumOf(map.element);
  const SharedPlace from =
      sharedPlace(t, i, Space::shared, t.registers[i.list[kShared]], boxBytes(map), alignmentOf(map));
  copy->reads.push_back({Space::shared, from.key(), boxBytes(map)});
  forPieces(t, i, map, [&](const Piece& piece) {
    if (!piece.inside) return;
    addRange(copy->writes, piece.global, piece.bytes);
    copy->runs.push_back({piece.global, inBox(map, from, piece.offset), piece.bytes, false});
  });
  t.block->cluster.bulk().issue(std::move(copy));
}

/** Takes 1d to 5d, and the map's operand with as many coordinates, appended to the slots. */
Slot takeMap(Statement& s, Decoder& d, Instruction& i, size_t operand, std::vector<Slot>& coordinates) {
  for (uint32_t rank = 1; rank <= TensorMap::kMostRank; ++rank) {
    if (s.take(format("%ud", rank))) i.count = rank;
  }
  s.expect(i.count != 0 && s.operands[operand].kind == Operand::Kind::address);
  const std::vector<Operand>& elements = s.operands[operand].elements;
  s.expect(elements.size() == 1 && elements[0].kind == Operand::Kind::vector && elements[0].elements.size() == i.count);
  for (const Operand& element : elements[0].elements) {
    s.expect(element.kind == Operand::Kind::slot);
    coordinates.push_back(element.slot);
  }
  return bulkAddress(s, d, operand);
}

}  // namespace

void decodeTensor(Statement& s, Decoder& d, Instruction& i) {
  const bool reduces = i.immediate != 0;
  s.take("tile");
  takeCacheHint(s);
  std::vector<Slot> coordinates, slots;
  if (takeBulkLoad(s, i)) {
    const bool many = s.take("multicast::cluster");
    s.expect(!reduces && s.take("global") && s.operands.size() == (many ? 4 : 3));
    const Slot map = takeMap(s, d, i, 1, coordinates);
    slots = {bulkAddress(s, d, 0), map, bulkAddress(s, d, 2), many ? d.scalar(s, 3) : kSinkSlot};
    i.run = load;
  } else {
    s.expect(s.operands.size() == 2 && (!reduces || s.take("add")));
    const Slot map = takeMap(s, d, i, 0, coordinates);
    slots = {bulkAddress(s, d, 1), map, kSinkSlot, kSinkSlot};
    i.run = reduces ? store<true> : store<false>;
  }
  slots.insert(slots.end(), coordinates.begin(), coordinates.end());
  i.list = d.list(slots);
}

/** Brings a map nearer: it is looked at, so one that is none is found here. */
void decodeTensorPrefetch(Statement& s, Decoder& d, Instruction& i) {
  const bool parameter = s.take("param");
  s.expect(!parameter && s.operands.size() == 1);
  i.list = d.list({bulkAddress(s, d, 0)});
  i.run = [](Thread& t, const Instruction& i) { readMap(t, i, t.registers[i.list[0]]); };
}

}  // namespace flowmap::simt
