// Joining of clocks.
#include "knowledge.h"

#include <algorithm>

#include "report.h"

namespace flowmap::simt {

namespace {

void raise(Clock& to, const Clock& from) {
  for (size_t i = 0; i < to.size(); ++i) to[i] = std::max(to[i], from[i]);
}

/** Joins what differs from the last one joined: mostly all are the same. */
template <class T>
void gather(std::vector<T>& distinct, const T& value) {
  if (value && std::find(distinct.begin(), distinct.end(), value) == distinct.end()) distinct.push_back(value);
}

template <class T>
T joinAll(const std::vector<T>& distinct) {
  T result;
  for (const T& value : distinct) result = join(result, value);
  return result;
}

}  // namespace

void tick(uint32_t& clock) {
  if (++clock > Epoch::kLatest)
    throw Defect(format("the race detector counts to %u synchronisations of a thread", Epoch::kLatest));
}

Snapshot join(const Snapshot& a, const Snapshot& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  auto result = std::make_shared<Clock>(*a);
  raise(*result, *b);
  return result;
}

Foreign join(const Foreign& a, const Foreign& b) {
  if (!a || a == b) return b;
  if (!b) return a;
  auto result = std::make_shared<ForeignClocks>(*a);
  for (const auto& [block, clock] : *b) (*result)[block] = join((*result)[block], clock);
  return result;
}

Snapshot snapshot(const Knowledge& knowledge, uint32_t thread, uint32_t threads) {
  auto result = std::make_shared<Clock>(*knowledge.known);
  (*result)[thread] = knowledge.own;
  (*result)[threads + thread] = knowledge.copied;
  return result;
}

Knowledge joined(std::span<const Knowledge* const> all, std::span<const uint32_t> threadIndices, uint32_t threads) {
  std::vector<Snapshot> known, fenced, proxied;
  std::vector<Foreign> foreign;
  for (const Knowledge* knowledge : all) {
    gather(known, knowledge->known);
    gather(fenced, knowledge->fenced);
    gather(proxied, knowledge->proxied);
    gather(foreign, knowledge->foreign);
  }
  auto clock = std::make_shared<Clock>(*known.front());
  for (size_t i = 1; i < known.size(); ++i) raise(*clock, *known[i]);
  for (size_t i = 0; i < all.size(); ++i) {
    (*clock)[threadIndices[i]] = all[i]->own;
    (*clock)[threads + threadIndices[i]] = all[i]->copied;
  }
  Knowledge result;
  result.known = std::move(clock);
  result.fenced = joinAll(fenced);
  result.proxied = joinAll(proxied);
  result.foreign = joinAll(foreign);
  return result;
}

}  // namespace flowmap::simt
