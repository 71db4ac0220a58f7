// What is asked of attention's backward in clusters of blocks, 128 keys and queries each: one block to eight, blocks
// without keys or without queries, tiles that none of a block's keys is seen by.
import { type AttentionMasks, type AttentionSizes, rounding } from '../../support/attentionOracle';
import { makeAdversarial, sizesOf } from '../../support/fusedAttention';
import { alternating, fillUncounted, type HopperCase } from './attentionHopperBackwardCases';

const caseOf = alternating();

const sized = (
  [
    [1, 1, 8],
    [129, 127, 16],
    [20, 260, 40],
    [260, 20, 40],
    [20, 1024, 8],
    [1000, 30, 8],
  ] as const
).map(([queries, keys, dim]) => caseOf(`${queries} queries, ${keys} keys, ${dim} wide`, sizesOf(queries, keys, dim)));

const masked = (
  [
    ['a causal mask', sizesOf(300, 300, 8), { causal: true }],
    ['a causal mask over a longer past', sizesOf(130, 270, 8), { causal: true }],
    ['a causal mask with more queries than keys', sizesOf(270, 130, 8), { causal: true }],
    ['grouped query heads', sizesOf(40, 150, 64, { heads: 4, keyHeads: 2 }), {}],
    [
      'one key head for all, heads inside',
      sizesOf(150, 140, 56, { heads: 3, keyHeads: 1 }),
      { layout: 'BSHD', causal: true },
    ],
    ['heads inside', sizesOf(33, 37, 64, { heads: 2 }), { layout: 'BSHD' }],
    ['a number of keys per row, none included', sizesOf(20, 300, 64, { batch: 4 }), { lengths: [300, 0, 128, 200] }],
    [
      'all of it',
      sizesOf(150, 200, 24, { batch: 2, heads: 2, keyHeads: 1 }),
      { lengths: [0, 131], causal: true, layout: 'BSHD', scale: 0.3 },
    ],
    ['a negative scale', sizesOf(17, 133, 8), { scale: -0.7 }],
  ] as [string, AttentionSizes, AttentionMasks][]
).map(([title, sizes, masks]) => caseOf(title, sizes, { masks }));

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
  caseOf(`${adversary}`, sizesOf(20, 150, 64), {
    dtype: 'bfloat16',
    change: (operands, dtype) => makeAdversarial(adversary, operands, dtype, 64, 4),
  }),
);

// All scores far below zero: keys that do not count would have weights beyond any range.
const low = caseOf('scores far below zero', sizesOf(40, 150, 24, { batch: 2 }), {
  dtype: 'float16',
  masks: { lengths: [150, 37] },
  change: (operands, dtype) => {
    for (const [i, shift] of [2, -2].entries()) operands[i] = rounding(dtype)(operands[i]!.map((x) => x + shift));
  },
});

const uncounted = (fill: number): HopperCase[] =>
  (
    [
      [sizesOf(35, 270, 64, { batch: 4 }), { lengths: [37, 128, 0, 200] }],
      [sizesOf(40, 150, 32, { batch: 2, heads: 2, keyHeads: 1 }), { lengths: [33, 140], causal: true, layout: 'BSHD' }],
    ] as [AttentionSizes, AttentionMasks][]
  ).map(([sizes, masks]) =>
    caseOf(`${sizes.dim} wide, what does not count is ${fill}`, sizes, {
      masks,
      dtype: 'bfloat16',
      change: (operands) => fillUncounted(operands, { sizes, masks }, fill),
    }),
  );

/** Cases that are compared with float64 where that takes long; the others are with other kernels. */
export const isQuick = ({ sizes: { batch, heads, queries, keys, dim } }: HopperCase) =>
  batch * heads * queries * keys * dim <= 2e5;

export const clusterCases = {
  clusters: [...sized, ...masked, ...adversarial, low, ...absent, ...wanted, ...uncounted(0)],
  clustersNan: uncounted(Number.NaN),
  clustersFew: [sized[2]!, masked[0]!, masked[4]!],
} as const;
