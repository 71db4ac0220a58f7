// What is asked of the kernel that gives all gradients of attention on Hopper, of heads wider than 64: tiles of 64 keys
// by 64 queries, two widths; as attentionHopperBackwardCases.ts for the others.
import { adversaries, sizesOf } from '../../support/fusedAttention';
import { all, makers } from './attentionHopperMakers';

const make = makers();
const { caseOf } = make;

const sized = make.sized([
  [1, 1, 72],
  [17, 64, 96],
  [64, 17, 128],
  [65, 127, 80],
  [129, 65, 72],
  [20, 2, 88],
  [1, 129, 112],
]);

const masked = make.masked({
  causal: sizesOf(140, 70, 128),
  past: sizesOf(20, 170, 72),
  moreQueries: sizesOf(130, 40, 128),
  grouped: sizesOf(70, 20, 80, { batch: 2, heads: 4, keyHeads: 2 }),
  oneKeyHead: sizesOf(70, 70, 104, { heads: 3, keyHeads: 1 }),
  inside: sizesOf(33, 37, 128, { batch: 2, heads: 2 }),
  lengths: [sizesOf(9, 130, 96, { batch: 4 }), [130, 1, 0, 65]],
  allOfIt: [sizesOf(70, 70, 128, { batch: 3, heads: 2, keyHeads: 1 }), [70, 0, 65]],
  negative: sizesOf(17, 33, 72),
});

const absent = make.absent([
  [72, [3], all],
  [72, [4], all],
  [128, [5], all],
  [128, [6], all],
  [128, [3, 4, 5], all],
  [96, [], [1, 1, 0, 0, 0, 0]],
  [128, [4], [0, 0, 1, 1, 1, 0]],
  [128, [], [1, 0, 0, 1, 1, 1]],
]);

const adversarial = adversaries.map((adversary, i) =>
  make.adversarial(adversary, sizesOf(20, 70, i % 2 === 0 ? 72 : 128)),
);

const low = make.low('scores far below zero', sizesOf(20, 70, 128), { dtype: 'bfloat16', shift: 3, share: 1 / 8 });

const instances = (['bfloat16', 'float16'] as const).flatMap((dtype) =>
  [96, 128].map((dim) =>
    caseOf(`${dim} wide, ${dtype}`, sizesOf(70, 70, dim, { heads: 2, keyHeads: 1 }), {
      masks: { causal: true },
      dtype,
    }),
  ),
);

const uncounted = (fill: number) =>
  make.uncounted(fill, [
    [sizesOf(70, 150, 128, { batch: 2 }), { lengths: [37, 128] }],
    [sizesOf(35, 70, 72, { batch: 2, heads: 2, keyHeads: 1 }), { lengths: [33, 64], causal: true, layout: 'BSHD' }],
  ]);

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
