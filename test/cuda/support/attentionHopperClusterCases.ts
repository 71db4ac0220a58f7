// What is asked of attention's backward in clusters of blocks, 128 keys and queries each: one block to eight, blocks
// without keys or without queries, tiles that none of a block's keys is seen by.
import { sizesOf } from '../../support/fusedAttention';
import { type HopperCase, makers } from './attentionHopperMakers';

const make = makers();
const { caseOf } = make;

const sized = make.sized([
  [1, 1, 8],
  [129, 127, 16],
  [20, 260, 40],
  [260, 20, 40],
  [20, 1024, 8],
  [1000, 30, 8],
]);

const masked = make.masked({
  causal: sizesOf(300, 300, 8),
  past: sizesOf(130, 270, 8),
  moreQueries: sizesOf(270, 130, 8),
  grouped: sizesOf(40, 150, 64, { heads: 4, keyHeads: 2 }),
  oneKeyHead: sizesOf(150, 140, 56, { heads: 3, keyHeads: 1 }),
  inside: sizesOf(33, 37, 64, { heads: 2 }),
  lengths: [sizesOf(20, 300, 64, { batch: 4 }), [300, 0, 128, 200]],
  allOfIt: [sizesOf(150, 200, 24, { batch: 2, heads: 2, keyHeads: 1 }), [0, 131]],
  negative: sizesOf(17, 133, 8),
});

// Either the tangents of keys or values, or their gradients, are there: else the kernels are others.
const absent = ([[3], [4], [5], [3, 4, 5], [6], [4, 5, 6]] as const).map((which) =>
  caseOf(`without operands ${which}`, sizesOf(34, 140, 24), { masks: { causal: true }, absent: which }),
);

const wanted = (
  [
    [1, 0, 0, 0, 0, 0],
    [0, 0, 0, 1, 0, 0],
    [0, 1, 0, 0, 1, 0],
    [0, 0, 1, 0, 0, 1],
  ] as const
).map((needs) => caseOf(`${needs} wanted`, sizesOf(20, 145, 40), { needs }));

const adversarial = (['sharp', 'large tangents'] as const).map((adversary) =>
  make.adversarial(adversary, sizesOf(20, 150, 64)),
);

const low = make.low('scores far below zero', sizesOf(40, 150, 24, { batch: 2 }), {
  dtype: 'float16',
  masks: { lengths: [150, 37] },
  shift: 2,
  share: 1,
});

const uncounted = (fill: number) =>
  make.uncounted(fill, [
    [sizesOf(35, 270, 64, { batch: 4 }), { lengths: [37, 128, 0, 200] }],
    [sizesOf(40, 150, 32, { batch: 2, heads: 2, keyHeads: 1 }), { lengths: [33, 140], causal: true, layout: 'BSHD' }],
  ]);

/** Cases that are compared with float64 where that takes long; the others are with other kernels. */
export const isQuick = ({ sizes: { batch, heads, queries, keys, dim } }: HopperCase) =>
  batch * heads * queries * keys * dim <= 2e5;

export const clusterCases = {
  clusters: [...sized, ...masked, ...adversarial, low, ...absent, ...wanted, ...uncounted(0)],
  clustersNan: uncounted(Number.NaN),
  clustersFew: [sized[2]!, masked[0]!, masked[4]!],
} as const;
