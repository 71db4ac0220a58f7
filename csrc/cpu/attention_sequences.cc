#include "cpu/attention_sequences.h"

#include "core/attention_offsets.h"

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

}  // namespace

std::vector<AttentionSequence> attentionSequences(const AttentionGeometry& g, const AttentionOperands& in,
                                                  int64_t keyTile, int64_t unit, AttentionOrder order) {
  std::vector<AttentionSequence> sequences(static_cast<size_t>(g.packed ? g.sequences : g.batch));
  if (g.packed) {
    const int32_t *queries = in.queryOffsets.data<int32_t>(), *keys = in.keyOffsets.data<int32_t>();
    checkOffsets(queryOffsetsOf(g.queries), queries, g.sequences + 1);
    checkOffsets(keyOffsetsOf(g.keys), keys, g.sequences + 1);
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
