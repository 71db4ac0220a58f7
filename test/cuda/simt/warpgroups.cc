// Groups of wgmma: issue, commit, wait.
#include "warpgroups.h"

#include "cluster.h"
#include "completion.h"

namespace flowmap::simt {

namespace {

constexpr uint32_t kWarps = 4, kToken = 0xffc00000u, kElementBits = 8, kTokens = 1u << 14;
constexpr uint32_t kElementMask = (1u << kElementBits) - 1;
constexpr size_t kRun = 64;  // registers looked at together

bool waitsFor(uint32_t token, uint64_t held) { return (held & ~uint64_t(kElementMask)) == token; }

/** Whether any of `count` registers may: a wait looks at thousands, and few do. In halves: every CPU compares those. */
bool anyMayWaitFor(uint32_t token, const uint64_t* registers, size_t count) {
  const uint32_t* halves = reinterpret_cast<const uint32_t*>(registers);
  uint32_t any = 0;
  for (size_t i = 0; i < 2 * count; ++i) any |= (halves[i] & ~kElementMask) == token ? 1 : 0;
  return any != 0;
}

}  // namespace

uint32_t Warpgroups::keyOf(const Block& block, uint32_t warp) {
  return block.rank * uint32_t(block.warps.size()) + warp;
}

Warpgroups::State& Warpgroups::stateOf(const Warp& warp) { return warps_[keyOf(*warp.block, warp.first / 32)]; }

void Warpgroups::fence(Warp& warp) { stateOf(warp).fenced = true; }

/** The accumulator that the registers wait for, or a new one of what they hold. */
std::shared_ptr<Accumulator> Warpgroups::accumulatorOf(Warp& warp, State& state, uint32_t perLane) {
  const uint32_t first = warp.lane(0).read<uint32_t>(warp.lane(0).at->list[0]);
  if (const auto found = state.accumulators.find(first); found != state.accumulators.end()) {
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const Thread& t = warp.lane(lane);
      for (uint32_t j = 0; j < perLane; ++j) {
        if (found->second->perLane == perLane && t.read<uint32_t>(t.at->list[j]) == first + j) continue;
        t.fail(format("%s: its accumulator is in part that of a wgmma under way", t.at->text));
      }
    }
    return found->second;
  }
  const Thread& leader = warp.lane(0);
  if (!state.fenced) {
    leader.fail(format("%s without a wgmma.fence since the warp's last wgmma.wait_group", leader.at->text));
  }
  auto fresh = std::make_shared<Accumulator>();
  fresh->token = kToken | (state.tokens++ % kTokens) << kElementBits;
  fresh->perLane = perLane;
  fresh->values.resize(32 * size_t(perLane));
  for (uint32_t lane = 0; lane < 32; ++lane) {
    Thread& t = warp.lane(lane);
    for (uint32_t j = 0; j < perLane; ++j) {
      const uint32_t held = t.read<uint32_t>(t.at->list[j]);
      if (state.accumulators.contains(held & ~kElementMask)) {
        t.fail(format("%s: its accumulator is in part that of a wgmma under way", t.at->text));
      }
      fresh->values[lane * perLane + j] = std::bit_cast<float>(held);
      t.write<uint32_t>(t.at->list[j], fresh->token + j);
    }
  }
  state.accumulators[fresh->token] = fresh;
  return fresh;
}

/** The four warps of a warpgroup make the same products, in the same order. */
void Warpgroups::checkSame(Warp& warp, const State& state, const WarpProduct& product) {
  const uint32_t index = warp.first / 32;
  Group& group = groups_[keyOf(*warp.block, index) / kWarps];
  const uint32_t at = state.products - group.first;
  if (at == group.products.size()) {
    WarpProduct described = product;
    described.accumulator = nullptr, described.registersOfA.clear();
    group.products.push_back(std::move(described));
  } else {
    const WarpProduct& other = group.products[at];
    if (other.at != product.at || other.b != product.b || other.a != product.a ||
        other.accumulates != product.accumulates) {
      warp.lane(0).fail(format("%s of warp %u differs from what another warp of its warpgroup did (%s, %s)",
                               product.at->text, index, other.at->text, other.at->where));
    }
  }
  // What all four have done is forgotten.
  const uint32_t first = index / kWarps * kWarps;
  uint32_t least = state.products + 1;
  for (uint32_t w = first; w < first + kWarps; ++w) {
    if (w != index) least = std::min(least, warps_[keyOf(*warp.block, w)].products);
  }
  while (group.first < least) group.products.pop_front(), ++group.first;
}

void Warpgroups::issue(Warp& warp) {
  State& state = stateOf(warp);
  const Thread& leader = warp.lane(0);
  const Instruction& i = *leader.at;
  const WgmmaForm form = WgmmaForm::of(i.immediate);
  const uint32_t perLane = i.count / 2;
  if (warp.first / 128 * 128 + 128 > warp.block->threads.size()) {
    leader.fail(format("%s in a warp that has no three others beside it: a warpgroup is 4 warps", i.text));
  }
  const Slot* rest = i.list + perLane;  // A, B, whether to accumulate
  const uint32_t slotsOfA = form.aInRegisters ? 4 : 1;
  WarpProduct product;
  product.at = &i;
  product.a = form.aInRegisters ? 0 : leader.registers[rest[0]];
  product.b = leader.registers[rest[slotsOfA]];
  product.accumulates = leader.registers[rest[slotsOfA + 1]] != 0;
  if (form.aInRegisters) product.registersOfA.reserve(32 * 4);
  for (uint32_t lane = 0; lane < 32; ++lane) {
    const Thread& t = warp.lane(lane);
    if ((!form.aInRegisters && t.registers[rest[0]] != product.a) || t.registers[rest[slotsOfA]] != product.b ||
        (t.registers[rest[slotsOfA + 1]] != 0) != product.accumulates) {
      t.fail(format("%s: its operands differ from those of the warp's first lane", i.text));
    }
    for (uint32_t r = 0; form.aInRegisters && r < 4; ++r) product.registersOfA.push_back(t.read<uint32_t>(rest[r]));
  }
  if (form.aInRegisters && !state.fenced) {
    leader.fail(format("%s without a wgmma.fence since the warp's last wgmma.wait_group", i.text));
  }
  checkSame(warp, state, product);
  ++state.products;
  observeReads(warp, product);
  product.accumulator = accumulatorOf(warp, state, perLane);
  ++product.accumulator->underWay;
  state.open.push_back(std::move(product));
}

void Warpgroups::finish(Warp& warp, State& state, std::vector<WarpProduct>& products) {
  for (WarpProduct& product : products) {
    compute(warp, product);
    Accumulator& done = *product.accumulator;
    if (--done.underWay) continue;
    // Wherever the compiler moved the registers meanwhile.
    const size_t slots = warp.block->kernel.image.size();
    for (uint32_t lane = 0; lane < 32; ++lane) {
      Thread& t = warp.lane(lane);
      const float* values = &done.values[lane * size_t(done.perLane)];
      for (size_t first = 0; first < slots; first += kRun) {
        const size_t count = std::min(kRun, slots - first);
        if (!anyMayWaitFor(done.token, &t.registers[first], count)) continue;
        for (size_t slot = first; slot < first + count; ++slot) {
          const uint64_t held = t.registers[slot];
          if (waitsFor(done.token, held)) t.write<float>(Slot(slot), values[held & kElementMask]);
        }
      }
    }
    state.accumulators.erase(done.token);
  }
}

void Warpgroups::commit(Warp& warp) {
  State& state = stateOf(warp);
  state.committed.push_back(std::move(state.open));
  state.open.clear();
  if (Observer* observer = warp.block->observer.get()) observer->wgmmaCommit(warp);
  const bool chance = completion() == Completion::random && warp.block->random() % 4 == 0;
  if (completion() != Completion::eager && !chance) return;
  for (; !state.committed.empty(); state.committed.pop_front()) {
    finish(warp, state, state.committed.front());
    state.committed.front().clear();
    if (chance) break;
  }
}

void Warpgroups::wait(Warp& warp, uint32_t pending) {
  State& state = stateOf(warp);
  // What is waited for is used: the next products' registers need a fence.
  state.fenced = false;
  for (; state.committed.size() > pending; state.committed.pop_front()) finish(warp, state, state.committed.front());
  if (Observer* observer = warp.block->observer.get()) observer->wgmmaWait(warp, pending);
}

void Warpgroups::blockEnds(const Block& block) {
  for (uint32_t w = 0; w < block.warps.size(); ++w) {
    const auto found = warps_.find(keyOf(block, w));
    if (found == warps_.end()) continue;
    const State& state = found->second;
    Thread& t = block.warps[w].block->threads[block.warps[w].first];
    const auto lost = [&](const std::vector<WarpProduct>& products) {
      if (products.empty()) return;
      t.at = products.front().at;
      t.fail(format("%s, which nothing waited for", t.at->text));
    };
    for (const auto& products : state.committed) lost(products);
    lost(state.open);
    const auto first = warps_.find(keyOf(block, w / kWarps * kWarps));
    if (first == warps_.end() || first->second.products != state.products) {
      t.fail(format("warp %u made %u wgmma and the first of its warpgroup %u", w, state.products,
                    first == warps_.end() ? 0 : first->second.products));
    }
  }
}

}  // namespace flowmap::simt
