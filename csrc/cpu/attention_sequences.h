// The sequences attention walks, rows of a batch and packed ones alike: both passes share out their tasks from one
// list.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/attention_args.h"

namespace flowmap::cpu {

struct AttentionSequence {
  int64_t firstQuery = 0, queries = 0;         // tokens, counted over all sequences
  int64_t firstKey = 0, keys = 0, length = 0;  // length: how many of the keys count
  int64_t firstScalar = 0;                     // of the first head's lse and mu
  int64_t keyTile = 0, keyTiles = 0;           // keys are packed in tiles of this many
  int64_t packedKey = 0;                       // how many packed keys of a head come before, padding included

  int64_t packedKeys() const { return keyTile * keyTiles; }
  int64_t pairs() const { return queries * keys; }

  // How many keys query i sees: a prefix of them.
  int64_t visible(const AttentionGeometry& g, int64_t i) const {
    return g.causal ? std::clamp<int64_t>(i + 1 + keys - queries, 0, length) : length;
  }
  // Elements: where a head's queries and keys begin in q and k.
  int64_t queryOffset(const AttentionGeometry& g, int64_t head) const {
    return firstQuery * g.queryHeads * g.dim + head * (g.headsInner ? g.dim : g.queries * g.dim);
  }
  int64_t keyOffset(const AttentionGeometry& g, int64_t head) const {
    return firstKey * g.keyHeads * g.dim + head * (g.headsInner ? g.dim : g.keys * g.dim);
  }
  int64_t scalarOffset(const AttentionGeometry& g, int64_t head) const { return firstScalar + head * g.queries; }
};

// Sequences in the order in which their tasks should begin: those with the longest tasks first.
enum class AttentionOrder { Keys, Pairs };

// Refuses lengths and offsets that are none. Tiles are of at most `keyTile` keys, a multiple of `unit`.
std::vector<AttentionSequence> attentionSequences(const AttentionGeometry& g, const AttentionOperands& in,
                                                  int64_t keyTile, int64_t unit, AttentionOrder order);

// Numbers things of which sequence i has counts[i].
class SequenceItems {
 public:
  struct Item {
    int64_t sequence, index;
  };
  template <class Count>
  SequenceItems(const std::vector<AttentionSequence>& sequences, Count count) : ends_(sequences.size()) {
    int64_t end = 0;
    for (size_t i = 0; i < sequences.size(); ++i) ends_[i] = end += count(i);
  }
  int64_t size() const { return ends_.empty() ? 0 : ends_.back(); }
  Item operator[](int64_t number) const {
    const int64_t sequence = std::upper_bound(ends_.begin(), ends_.end(), number) - ends_.begin();
    return {sequence, number - before(sequence)};
  }
  int64_t number(const Item& item) const { return before(item.sequence) + item.index; }

 private:
  int64_t before(int64_t sequence) const { return sequence > 0 ? ends_[sequence - 1] : 0; }

  std::vector<int64_t> ends_;
};

}  // namespace flowmap::cpu
