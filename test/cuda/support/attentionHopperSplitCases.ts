// What is asked of the kernel that gives all gradients of attention on Hopper, of heads wider than 64: tiles of 64 keys
// by 64 queries, two widths; as attentionHopperBackwardCases.ts for the others.
import { type AttentionMasks, type AttentionSizes, rounding } from '../../support/attentionOracle';
import { adversaries, makeAdversarial, sizesOf } from '../../support/fusedAttention';
import { alternating, fillUncounted } from './attentionHopperBackwardCases';

const caseOf = alternating();

const all = [1, 1, 1, 1, 1, 1] as const;
const names = ['q', 'k', 'v', 'tq', 'tk', 'tv', 'g', 'h'] as const;

const sized = (
  [
    [1, 1, 72],
    [17, 64, 96],
    [64, 17, 128],
    [65, 127, 80],
    [129, 65, 72],
    [20, 2, 88],
    [1, 129, 112],
  ] as const
).map(([queries, keys, dim]) => caseOf(`${queries} queries, ${keys} keys, ${dim} wide`, sizesOf(queries, keys, dim)));

const masked = (
  [
    ['a causal mask', sizesOf(140, 70, 128), { causal: true }],
    ['a causal mask over a longer past', sizesOf(20, 170, 72), { causal: true }],
    ['a causal mask with more queries than keys', sizesOf(130, 40, 128), { causal: true }],
    ['grouped query heads', sizesOf(70, 20, 80, { batch: 2, heads: 4, keyHeads: 2 }), {}],
    [
      'one key head for all, heads inside',
      sizesOf(70, 70, 104, { heads: 3, keyHeads: 1 }),
      { layout: 'BSHD', causal: true },
    ],
    ['heads inside', sizesOf(33, 37, 128, { batch: 2, heads: 2 }), { layout: 'BSHD' }],
    ['a number of keys per row, none included', sizesOf(9, 130, 96, { batch: 4 }), { lengths: [130, 1, 0, 65] }],
    [
      'all of it',
      sizesOf(70, 70, 128, { batch: 3, heads: 2, keyHeads: 1 }),
      { lengths: [70, 0, 65], causal: true, layout: 'BSHD', scale: 0.3 },
    ],
    ['a negative scale', sizesOf(17, 33, 72), { scale: -0.7 }],
  ] as [string, AttentionSizes, AttentionMasks][]
).map(([title, sizes, masks]) => caseOf(title, sizes, { masks }));

const absent = (
  [
    [72, [3], all],
    [72, [4], all],
    [128, [5], all],
    [128, [6], all],
    [128, [3, 4, 5], all],
    [96, [], [1, 1, 0, 0, 0, 0]],
    [128, [4], [0, 0, 1, 1, 1, 0]],
    [128, [], [1, 0, 0, 1, 1, 1]],
  ] as const
).map(([dim, which, needs]) =>
  caseOf(`without ${which.map((i) => names[i]).join(', ')}, ${needs} wanted, ${dim} wide`, sizesOf(34, 70, dim), {
    masks: { causal: true },
    absent: which,
    needs,
    dtype: 'bfloat16',
  }),
);

const adversarial = adversaries.map((adversary, i) => {
  const dim = i % 2 === 0 ? 72 : 128;
  return caseOf(adversary, sizesOf(20, 70, dim), {
    dtype: 'bfloat16',
    change: (operands, dtype) => makeAdversarial(adversary, operands, dtype, dim, 4),
  });
});

// A weight of what is not there, zeros, would be infinite.
const low = caseOf('scores far below zero', sizesOf(20, 70, 128), {
  dtype: 'bfloat16',
  change: (operands, dtype) => {
    const near = (by: number, x: Float64Array) => rounding(dtype)(x.map((each) => by + each / 8));
    operands[0] = near(3, operands[0]!);
    operands[1] = near(-3, operands[1]!);
  },
});

const instances = (['bfloat16', 'float16'] as const).flatMap((dtype) =>
  [96, 128].map((dim) =>
    caseOf(`${dim} wide, ${dtype}`, sizesOf(70, 70, dim, { heads: 2, keyHeads: 1 }), {
      masks: { causal: true },
      dtype,
    }),
  ),
);

const uncounted = (fill: number) =>
  (
    [
      [sizesOf(70, 150, 128, { batch: 2 }), { lengths: [37, 128] }],
      [sizesOf(35, 70, 72, { batch: 2, heads: 2, keyHeads: 1 }), { lengths: [33, 64], causal: true, layout: 'BSHD' }],
    ] as [AttentionSizes, AttentionMasks][]
  ).map(([sizes, masks]) =>
    caseOf(`${sizes.dim} wide, what does not count is ${fill}`, sizes, {
      masks,
      dtype: 'bfloat16',
      change: (operands) => fillUncounted(operands, { sizes, masks }, fill),
    }),
  );

const hard = [...adversarial, low];
/** Of `split`, whose gradients are small differences of large sums: those of other kernels may differ. */
export const splitHard = hard.length;
/** Of `split` those that are compared with float64 where that takes long. */
export const splitBasic = hard.length + sized.length + masked.length;

export const splitCases = {
  split: [...hard, ...sized, ...masked, ...absent, ...instances, ...uncounted(0)],
  splitNan: uncounted(Number.NaN),
  splitFew: [low, masked[0]!, masked[6]!, instances[2]!],
} as const;
