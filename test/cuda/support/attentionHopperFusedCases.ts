// What is asked of the kernel that gives all gradients of attention on Hopper, of heads of up to 64: 128 keys a block,
// tiles of 32 queries; as attentionHopperBackwardCases.ts for the others.
import { type AttentionMasks, type AttentionSizes, rounding } from '../../support/attentionOracle';
import { adversaries, makeAdversarial, sizesOf } from '../../support/fusedAttention';
import { alternating, fillUncounted } from './attentionHopperBackwardCases';

const caseOf = alternating();

const all = [1, 1, 1, 1, 1, 1] as const;
const names = ['q', 'k', 'v', 'tq', 'tk', 'tv', 'g', 'h'] as const;

const sized = (
  [
    [1, 1, 8],
    [17, 128, 64],
    [64, 17, 32],
    [65, 127, 40],
    [200, 65, 64],
    [20, 1, 16],
    [1, 129, 56],
  ] as const
).map(([queries, keys, dim]) => caseOf(`${queries} queries, ${keys} keys, ${dim} wide`, sizesOf(queries, keys, dim)));

const masked = (
  [
    ['a causal mask', sizesOf(150, 140, 64), { causal: true }],
    ['a causal mask over a longer past', sizesOf(20, 170, 48), { causal: true }],
    ['a causal mask with more queries than keys', sizesOf(150, 40, 32), { causal: true }],
    ['grouped query heads', sizesOf(40, 140, 40, { batch: 2, heads: 4, keyHeads: 2 }), {}],
    [
      'one key head for all, heads inside',
      sizesOf(70, 70, 64, { heads: 3, keyHeads: 1 }),
      { layout: 'BSHD', causal: true },
    ],
    ['heads inside', sizesOf(33, 37, 24, { batch: 2, heads: 2 }), { layout: 'BSHD' }],
    ['a number of keys per row, none included', sizesOf(9, 130, 64, { batch: 4 }), { lengths: [130, 1, 0, 65] }],
    [
      'all of it',
      sizesOf(40, 140, 64, { batch: 3, heads: 2, keyHeads: 1 }),
      { lengths: [140, 0, 65], causal: true, layout: 'BSHD', scale: 0.3 },
    ],
    ['a negative scale', sizesOf(17, 33, 8), { scale: -0.7 }],
  ] as [string, AttentionSizes, AttentionMasks][]
).map(([title, sizes, masks]) => caseOf(title, sizes, { masks }));

const absent = (
  [
    [64, [3], all],
    [40, [4], all],
    [64, [5], all],
    [64, [6], all],
    [64, [3, 4, 5], all],
    [32, [], [1, 1, 0, 0, 0, 0]],
    [64, [4], [0, 0, 1, 1, 1, 0]],
    [64, [], [1, 0, 0, 1, 1, 1]],
  ] as const
).map(([dim, which, needs]) =>
  caseOf(`without ${which.map((i) => names[i]).join(', ')}, ${needs} wanted, ${dim} wide`, sizesOf(34, 70, dim), {
    masks: { causal: true },
    absent: which,
    needs,
    dtype: 'bfloat16',
  }),
);

const adversarial = adversaries.map((adversary) =>
  caseOf(adversary, sizesOf(20, 70, 64), {
    dtype: 'bfloat16',
    change: (operands, dtype) => makeAdversarial(adversary, operands, dtype, 64, 4),
  }),
);

// Where masks of keys that do not count are all that keeps the exponentials of their zeros from being infinite.
const low = (['bfloat16', 'float16'] as const).map((dtype, i) =>
  caseOf(`scores far below zero, ${dtype}`, sizesOf(20, 140, 64), {
    masks: i === 0 ? {} : { lengths: [70] },
    dtype,
    change: (operands) => {
      operands[0] = rounding(dtype)(operands[0]!.map((x) => 6 + 0.1 * x));
      operands[1] = rounding(dtype)(operands[1]!.map((x) => -6 + 0.1 * x));
    },
  }),
);

const instances = (['bfloat16', 'float16'] as const).map((dtype) =>
  caseOf(`64 wide, ${dtype}`, sizesOf(70, 140, 64, { heads: 2, keyHeads: 1 }), { masks: { causal: true }, dtype }),
);

const uncounted = (fill: number) =>
  (
    [
      [sizesOf(40, 150, 64, { batch: 2 }), { lengths: [37, 128] }],
      [sizesOf(35, 140, 40, { batch: 2, heads: 2, keyHeads: 1 }), { lengths: [33, 130], causal: true, layout: 'BSHD' }],
    ] as [AttentionSizes, AttentionMasks][]
  ).map(([sizes, masks]) =>
    caseOf(`${sizes.dim} wide, what does not count is ${fill}`, sizes, {
      masks,
      dtype: 'bfloat16',
      change: (operands) => fillUncounted(operands, { sizes, masks }, fill),
    }),
  );

const basic = [...sized, ...adversarial, ...low, ...masked.slice(4)];
/** So many of all are compared with float64 where that takes long; the others are with the pair of kernels. */
export const basicFusedCases = basic.length;

export const fusedCases = {
  fused: [...basic, ...masked.slice(0, 4), ...absent, ...instances, ...uncounted(0)],
  fusedNan: uncounted(Number.NaN),
  fusedFew: [masked[0]!, masked[6]!, ...instances],
} as const;
