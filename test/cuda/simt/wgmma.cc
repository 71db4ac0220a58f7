// wgmma.mma_async m64nNk16 of bf16 or f16 with float32 accumulators, its fence and groups; setmaxnreg. Sums are as of
// mma.sync (mma.cc): in the order of k, each rounded; the hardware's own order differs in the last bits.
#include <algorithm>
#include <utility>

#include "cluster.h"
#include "decoder.h"
#include "floats.h"
#include "full_warp.h"
#include "wgmma_operands.h"

namespace flowmap::simt {

namespace {

constexpr uint32_t kDepth = 16, kRowsOfWarp = 16, kChunkElements = 8, kMostColumns = 256;

/** Calls function(mn, k, address) for the chunks of `count` rows or columns from `first` on. */
template <class Function>
void forChunks(const MatrixDescriptor& matrix, uint32_t first, uint32_t count, Function&& function) {
  const uint32_t stepMn = matrix.mnMajor ? kChunkElements : 1, stepK = matrix.mnMajor ? 1 : kChunkElements;
  for (uint32_t mn = 0; mn < count; mn += stepMn) {
    for (uint32_t k = 0; k < kDepth; k += stepK) function(mn, k, matrix.chunk(first + mn, k));
  }
}

float element(uint16_t bits, bool half) { return half ? toFloat(Half{bits}) : toFloat(BFloat{bits}); }

/** store(mn, k, value) for all elements. */
template <class Store>
void gather(Thread& t, const MatrixDescriptor& matrix, uint32_t first, uint32_t count, bool half, float sign,
            Store&& store) {
  forChunks(matrix, first, count, [&](uint32_t mn, uint32_t k, uint64_t address) {
    const uint8_t* shadow;
    const uint8_t* bytes = operandChunk(t, address, shadow);
    if (!isWritten(shadow, 16)) {
      t.fail(format("%s reads shared 0x%llx, which was never written", t.at->text, (unsigned long long)address));
    }
    for (uint32_t e = 0; e < kChunkElements; ++e) {
      uint16_t bits;
      std::memcpy(&bits, bytes + 2 * e, 2);
      store(mn + (matrix.mnMajor ? e : 0), k + (matrix.mnMajor ? 0 : e), sign * element(bits, half));
    }
  });
}

uint32_t firstRow(const Warp& warp) { return warp.first / 32 % 4 * kRowsOfWarp; }

Warpgroups& warpgroupsOf(Warp& warp) { return warp.block->cluster.warpgroups(); }

void issue(Warp& warp, uint32_t) { warpgroupsOf(warp).issue(warp); }
void fence(Warp& warp, uint32_t) { warpgroupsOf(warp).fence(warp); }
void commit(Warp& warp, uint32_t) { warpgroupsOf(warp).commit(warp); }
void wait(Warp& warp, uint32_t) { warpgroupsOf(warp).wait(warp, warp.lane(0).at->count); }
void meet(Warp&, uint32_t) {}

void decodeProduct(Statement& s, Decoder& d, Instruction& i) {
  s.expect(s.take("sync") && s.take("aligned"));
  for (uint32_t n = 8; n <= kMostColumns; n += 8) {
    if (s.take(format("m64n%uk16", n))) i.count = n;
  }
  s.expect(i.count != 0 && s.takeType() == Type::f32);
  const Type a = s.takeType(), b = s.takeType();
  s.expect(a == b && (a == Type::bf16 || a == Type::f16));
  std::vector<Slot> slots;
  d.append(s, 0, slots);
  s.expect(slots.size() == i.count / 2 && s.operands.size() >= 7);
  WgmmaForm form{};
  form.half = a == Type::f16;
  form.aInRegisters = s.operands[1].kind == Operand::Kind::vector;
  const size_t before = slots.size();
  d.append(s, 1, slots);
  s.expect(slots.size() - before == (form.aInRegisters ? 4 : 1));
  slots.push_back(d.scalar(s, 2));
  slots.push_back(d.scalar(s, 3));
  const auto constant = [&](size_t operand) {
    s.expect(s.operands[operand].constant);
    return int64_t(s.operands[operand].value);
  };
  const auto negates = [&](size_t operand) {
    const int64_t sign = constant(operand);
    s.expect(sign == 1 || sign == -1);
    return sign == -1;
  };
  const auto transposes = [&](size_t operand) {
    const int64_t major = constant(operand);
    s.expect(major == 0 || major == 1);
    return major == 1;
  };
  s.expect(s.operands.size() == (form.aInRegisters ? 7 : 8));
  form.aNegated = negates(4), form.bNegated = negates(5);
  if (!form.aInRegisters) form.aMnMajor = transposes(6);
  form.bMnMajor = transposes(s.operands.size() - 1);
  i.immediate = form.encode();
  i.list = d.list(slots);
  i.run = runFullWarp<issue>;
}

void decode(Statement& s, Decoder& d, Instruction& i) {
  d.kernel().asynchronous = true;
  if (s.take("mma_async")) return decodeProduct(s, d, i);
  const bool fences = s.take("fence"), commits = s.take("commit_group");
  s.expect(fences || commits || s.take("wait_group"));
  s.expect(s.take("sync") && s.take("aligned") && s.operands.size() == (fences || commits ? 0 : 1));
  if (fences) {
    i.run = runFullWarp<fence>;
  } else if (commits) {
    i.run = runFullWarp<commit>;
  } else {
    s.expect(s.operands[0].constant && s.operands[0].value < 8);
    i.count = uint32_t(s.operands[0].value);
    i.run = runFullWarp<wait>;
  }
}

/** Registers are not counted here: ptxas's report is where budgets are checked. */
void decodeRegisters(Statement& s, Decoder&, Instruction& i) {
  s.expect((s.take("inc") || s.take("dec")) && s.take("sync") && s.take("aligned") && s.takeType() == Type::u32);
  s.expect(s.operands.size() == 1 && s.operands[0].constant);
  const uint64_t count = s.operands[0].value;
  s.expect(count >= 24 && count <= 256 && count % 8 == 0);
  i.run = runFullWarp<meet>;
}

}  // namespace

void observeReads(Warp& warp, const WarpProduct& product) {
  Thread& t = warp.lane(0);
  const WgmmaForm form = WgmmaForm::of(product.at->immediate);
  const MatrixDescriptor a(product.a, form.aMnMajor), b(product.b, form.bMnMajor);
  Observer* observer = warp.block->observer.get();
  const auto observe = [&](uint32_t, uint32_t, uint64_t address) {
    const uint8_t* shadow;
    operandChunk(t, address, shadow);
    if (observer) observer->wgmmaReads(t, *product.at, address, 16);
  };
  if (!form.aInRegisters) {
    checkDescriptor(t, a, 'A');
    forChunks(a, firstRow(warp), kRowsOfWarp, observe);
  }
  checkDescriptor(t, b, 'B');
  forChunks(b, 0, product.at->count, observe);
}

// In a fragment of the accumulator, lane l holds in element j: row l/4 + 8·(j/2 % 2), column 8·(j/4) + 2·(l%4) + j%2.
// A's registers are as of mma.m16n8k16.
void compute(Warp& warp, const WarpProduct& product) {
  const WgmmaForm form = WgmmaForm::of(product.at->immediate);
  const uint32_t n = product.at->count;
  Accumulator& accumulator = *product.accumulator;
  struct Matrices {
    float a[kRowsOfWarp][kDepth], b[kDepth][kMostColumns], c[kRowsOfWarp][kMostColumns];
  };
  static thread_local Matrices matrices;  // found once: in a shared library every mention of such a name is a call
  auto& [a, b, c] = matrices;
  Thread& t = warp.lane(0);
  const Instruction* const at = std::exchange(t.at, product.at);
  const float signA = form.aNegated ? -1.0f : 1.0f, signB = form.bNegated ? -1.0f : 1.0f;
  gather(t, MatrixDescriptor(product.b, form.bMnMajor), 0, n, form.half, signB,
         [&](uint32_t mn, uint32_t k, float value) { b[k][mn] = value; });
  if (form.aInRegisters) {
    for (uint32_t lane = 0; lane < 32; ++lane) {
      for (uint32_t r = 0; r < 4; ++r) {
        const uint32_t pair = product.registersOfA[4 * lane + r];
        const uint32_t row = lane / 4 + r % 2 * 8, k = lane % 4 * 2 + r / 2 * 8;
        a[row][k] = signA * element(uint16_t(pair), form.half);
        a[row][k + 1] = signA * element(uint16_t(pair >> 16), form.half);
      }
    }
  } else {
    gather(t, MatrixDescriptor(product.a, form.aMnMajor), firstRow(warp), kRowsOfWarp, form.half, signA,
           [&](uint32_t mn, uint32_t k, float value) { a[mn][k] = value; });
  }
  t.at = at;
  const auto forElements = [&](auto&& function) {
    for (uint32_t lane = 0; lane < 32; ++lane) {
      for (uint32_t j = 0; j < accumulator.perLane; ++j) {
        function(c[lane / 4 + j / 2 % 2 * 8][j / 4 * 8 + lane % 4 * 2 + j % 2],
                 accumulator.values[lane * accumulator.perLane + j]);
      }
    }
  };
  forElements([&](float& sum, float value) { sum = product.accumulates ? value : 0.0f; });
  for (uint32_t r = 0; r < kRowsOfWarp; ++r) {
    for (uint32_t k = 0; k < kDepth; ++k) {
      for (uint32_t column = 0; column < n; ++column) c[r][column] += a[r][k] * b[k][column];
    }
  }
  forElements([&](float sum, float& value) { value = canonical(sum); });
}

void registerWgmma(DecodeTable& table) {
  table["wgmma"] = decode;
  table["setmaxnreg"] = decodeRegisters;
  table["griddepcontrol"] = [](Statement& s, Decoder&, Instruction& i) {
    // Kernels run one after the other: what comes before is over, and nothing is to be started early.
    s.expect((s.take("wait") || s.take("launch_dependents")) && s.operands.empty());
    i.run = [](Thread&, const Instruction&) {};
  };
}

}  // namespace flowmap::simt
