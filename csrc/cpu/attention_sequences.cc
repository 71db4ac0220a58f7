#include "cpu/attention_sequences.h"

namespace flowmap::cpu {
namespace {

void checkKeyLengths(const Tensor& keyLengths, int64_t keys) {
  for (int64_t b = 0; keyLengths && b < keyLengths.numel(); ++b) {
    const int32_t length = keyLengths.data<int32_t>()[b];
    if (length < 0 || length > keys) {
      fail(ErrorCode::Argument, "attention", "keyLengths must be in [0, ", keys, "], got ", length, " in row ", b);
    }
  }
}

// cuda/attention_checks.cu uses the same words; of several faults either may name another. `tokens`: "queries" or
// "keys".
void checkOffsets(const char* argument, const char* tokens, const int32_t* offsets, int64_t sequences, int64_t total) {
  if (offsets[0] != 0) fail(ErrorCode::Argument, "attention", argument, " must begin at 0, got ", offsets[0]);
  for (int64_t i = 1; i <= sequences; ++i) {
    if (offsets[i] >= offsets[i - 1]) continue;
    fail(ErrorCode::Argument, "attention", argument, " must not decrease, got ", offsets[i], " after ", offsets[i - 1],
         " at index ", i);
  }
  if (offsets[sequences] != total) {
    fail(ErrorCode::Argument, "attention", argument, " must end at ", total, " (the ", tokens, "), got ",
         offsets[sequences]);
  }
}

}  // namespace

std::vector<AttentionSequence> attentionSequences(const AttentionGeometry& g, const AttentionOperands& in,
                                                  int64_t keyTile, int64_t unit, AttentionOrder order) {
  std::vector<AttentionSequence> sequences(static_cast<size_t>(g.packed ? g.sequences : g.batch));
  if (g.packed) {
    const int32_t *queries = in.queryOffsets.data<int32_t>(), *keys = in.keyOffsets.data<int32_t>();
    checkOffsets("queryOffsets", "queries", queries, g.sequences, g.queries);
    checkOffsets("keyOffsets", "keys", keys, g.sequences, g.keys);
    for (int64_t i = 0; i < g.sequences; ++i) {
      AttentionSequence& s = sequences[i];
      s.firstQuery = s.firstScalar = queries[i];
      s.queries = queries[i + 1] - queries[i];
      s.firstKey = keys[i];
      s.keys = s.length = keys[i + 1] - keys[i];
    }
  } else {
    checkKeyLengths(in.keyLengths, g.keys);
    for (int64_t b = 0; b < g.batch; ++b) {
      AttentionSequence& s = sequences[b];
      s.firstQuery = b * g.queries;
      s.queries = g.queries;
      s.firstScalar = b * g.queryHeads * g.queries;
      s.firstKey = b * g.keys;
      s.keys = g.keys;
      s.length = in.keyLengths ? in.keyLengths.data<int32_t>()[b] : g.keys;
    }
  }
  std::stable_sort(sequences.begin(), sequences.end(), [&](const AttentionSequence& a, const AttentionSequence& b) {
    return order == AttentionOrder::Keys ? a.keys > b.keys : a.pairs() > b.pairs();
  });
  int64_t packed = 0;
  for (AttentionSequence& s : sequences) {
    // Its own, not that of the longest sequence: the same sequence alone gives the same bits.
    s.keyTile = std::min(keyTile, (std::max<int64_t>(s.keys, 1) + unit - 1) / unit * unit);
    s.keyTiles = (s.keys + s.keyTile - 1) / s.keyTile;
    s.packedKey = packed;
    packed += s.packedKeys();
  }
  return sequences;
}

}  // namespace flowmap::cpu
