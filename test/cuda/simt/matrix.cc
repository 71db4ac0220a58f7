// Matrices of a warp's registers: ldmatrix, stmatrix, movmatrix (8×8 tiles of 16-bit elements). In a tile's fragment,
// lane l holds elements (l/4, 2·(l%4)) and the one right of it.
#include <array>

#include "banks.h"
#include "block.h"
#include "decoder.h"
#include "full_warp.h"
#include "options.h"

namespace flowmap::simt {

namespace {

constexpr uint32_t kRowBytes = 16, kTile = 8;

struct Tile {
  uint16_t at[kTile][kTile];
};

/** The row that a lane points to, 16 bytes of shared memory. */
uint8_t* row(Warp& warp, uint32_t lane, Access access, uint64_t& address) {
  Thread& thread = warp.lane(lane);
  const Instruction& instruction = *thread.at;
  address = thread.registers[instruction.a] + uint64_t(instruction.immediate);
  if (instruction.space == Space::shared) address = uint32_t(address);
  return warp.block->access(thread, instruction, instruction.space, address, kRowBytes, access);
}

void count(Warp& warp, std::span<const uint64_t> rows) {
  BankCounts& counts = bankCounts(warp.block->kernel);
  counts.matrixPasses.fetch_add(bankPasses(rows, kRowBytes), std::memory_order_relaxed);
  counts.matrixIdeal.fetch_add(1, std::memory_order_relaxed);
}

uint32_t fragment(const Tile& tile, uint32_t lane, bool transposed) {
  const uint32_t r = lane / 4, c = lane % 4 * 2;
  return transposed ? tile.at[c][r] | uint32_t(tile.at[c + 1][r]) << 16
                    : tile.at[r][c] | uint32_t(tile.at[r][c + 1]) << 16;
}

void place(Tile& tile, uint32_t lane, bool transposed, uint32_t pair) {
  const uint32_t r = lane / 4, c = lane % 4 * 2;
  (transposed ? tile.at[c][r] : tile.at[r][c]) = uint16_t(pair);
  (transposed ? tile.at[c + 1][r] : tile.at[r][c + 1]) = uint16_t(pair >> 16);
}

// Lane 8m + i points to row i of tile m. `count` is the number of tiles.
template <bool Transposed>
void load(Warp& warp, uint32_t) {
  const Instruction& first = *warp.lane(0).at;
  std::array<Tile, 4> tiles;
  for (uint32_t m = 0; m < first.count; ++m) {
    std::array<uint64_t, kTile> addresses;
    for (uint32_t i = 0; i < kTile; ++i) {
      std::memcpy(tiles[m].at[i], row(warp, m * kTile + i, Access::read, addresses[i]), kRowBytes);
    }
    count(warp, addresses);
  }
  for (uint32_t lane = 0; lane < 32; ++lane) {
    Thread& thread = warp.lane(lane);
    for (uint32_t m = 0; m < first.count; ++m) {
      thread.write<uint32_t>(thread.at->list[m], fragment(tiles[m], lane, Transposed));
    }
  }
}

template <bool Transposed>
void store(Warp& warp, uint32_t) {
  const Instruction& first = *warp.lane(0).at;
  for (uint32_t m = 0; m < first.count; ++m) {
    Tile tile;
    for (uint32_t lane = 0; lane < 32; ++lane) {
      Thread& thread = warp.lane(lane);
      place(tile, lane, Transposed, thread.read<uint32_t>(thread.at->list[m]));
    }
    std::array<uint64_t, kTile> addresses;
    for (uint32_t i = 0; i < kTile; ++i) {
      std::memcpy(row(warp, m * kTile + i, Access::write, addresses[i]), tile.at[i], kRowBytes);
    }
    count(warp, addresses);
  }
}

void transpose(Warp& warp, uint32_t) {
  Tile tile;
  for (uint32_t lane = 0; lane < 32; ++lane) {
    Thread& thread = warp.lane(lane);
    place(tile, lane, false, thread.read<uint32_t>(thread.at->a));
  }
  for (uint32_t lane = 0; lane < 32; ++lane) {
    Thread& thread = warp.lane(lane);
    thread.write<uint32_t>(thread.at->d, fragment(tile, lane, true));
  }
}

/** Takes .sync.aligned.m8n8.x1/2/4[.trans][.shared].b16; returns whether .trans was there. */
bool takeShape(Statement& statement, Instruction& instruction) {
  statement.expect(statement.take("sync") && statement.take("aligned") && statement.take("m8n8"));
  for (const uint32_t tiles : {1u, 2u, 4u}) {
    if (statement.take(format("x%u", tiles))) instruction.count = tiles;
  }
  statement.expect(instruction.count != 0);
  const bool transposed = statement.take("trans");
  const bool shared = statement.take("shared") || statement.take("shared::cta");
  instruction.space = shared ? Space::shared : Space::generic;
  statement.expect(statement.takeType() == Type::b16 && statement.operands.size() == 2);
  return transposed;
}

void takeFragments(Statement& statement, Decoder& decoder, Instruction& instruction, size_t operand) {
  std::vector<Slot> slots;
  decoder.append(statement, operand, slots);
  statement.expect(slots.size() == instruction.count);
  instruction.list = decoder.list(slots);
}

void decodeLoad(Statement& statement, Decoder& decoder, Instruction& instruction) {
  const bool transposed = takeShape(statement, instruction);
  takeFragments(statement, decoder, instruction, 0);
  decoder.address(statement, 1, instruction.a, instruction.immediate);
  instruction.run = transposed ? runFullWarp<load<true>> : runFullWarp<load<false>>;
}

void decodeStore(Statement& statement, Decoder& decoder, Instruction& instruction) {
  statement.expect(options().sm >= 90);
  const bool transposed = takeShape(statement, instruction);
  decoder.address(statement, 0, instruction.a, instruction.immediate);
  takeFragments(statement, decoder, instruction, 1);
  instruction.run = transposed ? runFullWarp<store<true>> : runFullWarp<store<false>>;
}

void decodeTranspose(Statement& statement, Decoder& decoder, Instruction& instruction) {
  statement.expect(statement.take("sync") && statement.take("aligned") && statement.take("m8n8") &&
                   statement.take("trans") && statement.takeType() == Type::b16);
  instruction.d = decoder.scalar(statement, 0);
  instruction.a = decoder.scalar(statement, 1);
  instruction.run = runFullWarp<transpose>;
}

}  // namespace

void registerMatrix(DecodeTable& table) {
  table["ldmatrix"] = decodeLoad;
  table["stmatrix"] = decodeStore;
  table["movmatrix"] = decodeTranspose;
}

}  // namespace flowmap::simt
