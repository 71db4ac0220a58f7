// mma.sync: D = A·B + C of a warp, A row-major, B column-major. Each element is c, then + a₀b₀, + a₁b₁, … in the order
// of k, every product exact (unless it leaves float32's range) and every sum rounded to float32; f16 results are
// rounded once more, at the end. Tensor cores add several products at once with wider, truncated sums: results agree to
// float32's rounding, not bit for bit, and kernels must not depend on either order.
#include <array>

#include "block.h"
#include "decoder.h"
#include "floats.h"
#include "full_warp.h"

namespace flowmap::simt {

namespace {

constexpr uint32_t kRows = 16, kColumns = 8, kMostDepth = 16;

using RowOfC = std::array<float, kColumns>;

template <class T>
T sixteenBits(uint32_t pair, uint32_t which) {
  return T{uint16_t(pair >> (16 * which))};
}

/** tf32 has float32's exponent and 10 bits of mantissa; the rest of the register is not looked at. */
struct Tf32 {
  uint32_t bits;
};
float toFloat(Tf32 value) { return std::bit_cast<float>(value.bits & 0xffffe000u); }

struct Operands {
  float a[kRows][kMostDepth];
  RowOfC b[kMostDepth];
};

uint32_t word(Thread& thread, uint32_t operand) { return thread.read<uint32_t>(thread.at->list[operand]); }

// Lane l: group g = l/4 (a row of A and C, a column of B), t = l%4. A register holds two neighbours in k.
template <class T, uint32_t kDepth>
void gatherPairs(Warp& warp, uint32_t a, uint32_t b, Operands& operands) {
  for (uint32_t lane = 0; lane < 32; ++lane) {
    Thread& thread = warp.lane(lane);
    const uint32_t g = lane / 4, t = lane % 4 * 2;
    for (uint32_t i = 0; i < kDepth / 4; ++i) {
      const uint32_t pair = word(thread, a + i), r = g + i % 2 * 8, k = t + i / 2 * 8;
      for (uint32_t half = 0; half < 2; ++half) operands.a[r][k + half] = toFloat(sixteenBits<T>(pair, half));
    }
    for (uint32_t i = 0; i < kDepth / 8; ++i) {
      const uint32_t pair = word(thread, b + i), k = t + i * 8;
      for (uint32_t half = 0; half < 2; ++half) operands.b[k + half][g] = toFloat(sixteenBits<T>(pair, half));
    }
  }
}

template <uint32_t kDepth>
void gatherTf32(Warp& warp, uint32_t a, uint32_t b, Operands& operands) {
  for (uint32_t lane = 0; lane < 32; ++lane) {
    Thread& thread = warp.lane(lane);
    const uint32_t g = lane / 4, t = lane % 4;
    for (uint32_t i = 0; i < kDepth / 2; ++i) {
      operands.a[g + i % 2 * 8][t + i / 2 * 4] = toFloat(Tf32{word(thread, a + i)});
    }
    for (uint32_t i = 0; i < kDepth / 4; ++i) operands.b[t + i * 4][g] = toFloat(Tf32{word(thread, b + i)});
  }
}

template <class T, uint32_t kDepth, class Accumulator>
void multiply(Warp& warp, uint32_t) {
  constexpr bool isTf32 = std::is_same_v<T, Tf32>;
  constexpr bool isHalf = std::is_same_v<Accumulator, Half>;
  constexpr uint32_t kD = isHalf ? 2 : 4;
  constexpr uint32_t kA = isTf32 ? kDepth / 2 : kDepth / 4, kB = isTf32 ? kDepth / 4 : kDepth / 8;
  constexpr uint32_t a = kD, b = a + kA, c = b + kB;
  Operands operands;
  if constexpr (isTf32) {
    gatherTf32<kDepth>(warp, a, b, operands);
  } else {
    gatherPairs<T, kDepth>(warp, a, b, operands);
  }
  std::array<RowOfC, kRows> sums;
  const auto row = [](uint32_t lane, uint32_t i) { return lane / 4 + i / 2 * 8; };
  const auto column = [](uint32_t lane, uint32_t i) { return lane % 4 * 2 + i % 2; };
  for (uint32_t lane = 0; lane < 32; ++lane) {
    Thread& thread = warp.lane(lane);
    for (uint32_t i = 0; i < 4; ++i) {
      float& sum = sums[row(lane, i)][column(lane, i)];
      if constexpr (isHalf) {
        sum = toFloat(sixteenBits<Half>(word(thread, c + i / 2), i % 2));
      } else {
        sum = thread.read<float>(thread.at->list[c + i]);
      }
    }
  }
  for (uint32_t r = 0; r < kRows; ++r) {
    for (uint32_t k = 0; k < kDepth; ++k) {
      for (uint32_t n = 0; n < kColumns; ++n) sums[r][n] += operands.a[r][k] * operands.b[k][n];
    }
  }
  for (uint32_t lane = 0; lane < 32; ++lane) {
    Thread& thread = warp.lane(lane);
    for (uint32_t i = 0; i < 4; i += isHalf ? 2 : 1) {
      const float sum = sums[row(lane, i)][column(lane, i)];
      if constexpr (isHalf) {
        const uint32_t low = narrow<Half>(sum).bits, high = narrow<Half>(sums[row(lane, i)][column(lane, i + 1)]).bits;
        thread.write<uint32_t>(thread.at->list[i / 2], low | high << 16);
      } else {
        thread.write<float>(thread.at->list[i], canonical(sum));
      }
    }
  }
}

struct Shape {
  Type element, accumulator;
  const char* name;
  uint32_t registers[4];  // of d, a, b, c
  Handler run;
};

constexpr Shape kShapes[] = {
    {Type::bf16, Type::f32, "m16n8k16", {4, 4, 2, 4}, runFullWarp<multiply<BFloat, 16, float>>},
    {Type::bf16, Type::f32, "m16n8k8", {4, 2, 1, 4}, runFullWarp<multiply<BFloat, 8, float>>},
    {Type::f16, Type::f32, "m16n8k16", {4, 4, 2, 4}, runFullWarp<multiply<Half, 16, float>>},
    {Type::f16, Type::f32, "m16n8k8", {4, 2, 1, 4}, runFullWarp<multiply<Half, 8, float>>},
    {Type::f16, Type::f16, "m16n8k16", {2, 4, 2, 2}, runFullWarp<multiply<Half, 16, Half>>},
    {Type::f16, Type::f16, "m16n8k8", {2, 2, 1, 2}, runFullWarp<multiply<Half, 8, Half>>},
    {Type::tf32, Type::f32, "m16n8k8", {4, 4, 2, 4}, runFullWarp<multiply<Tf32, 8, float>>},
    {Type::tf32, Type::f32, "m16n8k4", {4, 2, 1, 4}, runFullWarp<multiply<Tf32, 4, float>>},
};

void decode(Statement& statement, Decoder& decoder, Instruction& instruction) {
  statement.expect(statement.take("sync") && statement.take("aligned") && statement.take("row") &&
                   statement.take("col") && statement.operands.size() == 4);
  const Type d = statement.takeType(), a = statement.takeType(), b = statement.takeType(), c = statement.takeType();
  statement.expect(a == b && c == d);
  for (const Shape& shape : kShapes) {
    if (shape.element != a || shape.accumulator != d || !statement.take(shape.name)) continue;
    std::vector<Slot> slots;
    for (size_t operand = 0; operand < 4; ++operand) {
      const size_t before = slots.size();
      decoder.append(statement, operand, slots);
      statement.expect(slots.size() - before == shape.registers[operand]);
    }
    instruction.list = decoder.list(slots);
    instruction.run = shape.run;
    return;
  }
  statement.unknown();
}

}  // namespace

void registerMma(DecodeTable& table) { table["mma"] = decode; }

}  // namespace flowmap::simt
